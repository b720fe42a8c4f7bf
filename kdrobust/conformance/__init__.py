"""Conformance: our losses and attacks against numbers that other people's own code returned.

`python -m kdrobust.conformance FILE.json` computes every case of such a file with this project's losses and prints the
relative errors; `FILE.npz` holds arrays that other libraries' attacks returned on a small model, and is computed with
this project's attacks.
"""

from kdrobust.conformance.array_recipes import check_arrays
from kdrobust.conformance.arrays import ArrayFile, ArrayOutcome, read_arrays
from kdrobust.conformance.cases import Case, read_cases
from kdrobust.conformance.check import Outcome, check_case

__all__ = [
    "ArrayFile",
    "ArrayOutcome",
    "Case",
    "Outcome",
    "check_arrays",
    "check_case",
    "read_arrays",
    "read_cases",
]
