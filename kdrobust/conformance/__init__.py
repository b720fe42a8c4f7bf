"""Conformance: our losses against numbers that the methods' own code returned.

`python -m kdrobust.conformance FILE.json` reads such a file, computes every case with this project's losses and prints
the relative errors.
"""

from kdrobust.conformance.cases import Case, read_cases
from kdrobust.conformance.check import Outcome, check_case

__all__ = ["Case", "Outcome", "check_case", "read_cases"]
