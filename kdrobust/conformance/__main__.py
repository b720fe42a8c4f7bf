"""`python -m kdrobust.conformance FILE.json|FILE.npz ... [--only a,b] [--tolerance 1e-9] [--json]`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kdrobust.conformance.array_recipes import check_arrays
from kdrobust.conformance.arrays import ArrayOutcome, read_arrays
from kdrobust.conformance.cases import read_cases
from kdrobust.conformance.check import Outcome, check_case
from kdrobust.errors import KdrobustError, UsageError


def _settings(outcome: Outcome) -> str:
    shown = {key: value for key, value in outcome.case.hyperparameters.items() if not isinstance(value, str)}
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items()
    )


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Relative error against the methods' own code (float64)")
    for column in ("method", "settings", "ours", "theirs", "loss", "worst other", "verdict"):
        table.add_column(column, justify="left" if column in ("method", "settings", "verdict") else "right")
    for outcome in outcomes:
        others = [error for name, error in outcome.errors.items() if name != "loss"]
        theirs = outcome.case.expected.get("loss")
        table.add_row(
            outcome.case.method,
            _settings(outcome),
            "-" if outcome.ours is None else f"{outcome.ours:.9g}",
            "-" if theirs is None else f"{float(theirs):.9g}",
            f"{outcome.errors['loss']:.1e}" if "loss" in outcome.errors else "-",
            f"{max(others):.1e}" if others else "-",
            _verdict(outcome),
        )
    return table


def _verdict(outcome: Outcome) -> str:
    if outcome.problem:
        return outcome.problem
    if outcome.case.unequal:
        return "ok (theirs is a fault; ours differs)" if outcome.passed else "EQUALS A FAULT"
    return "ok" if outcome.passed else "DIFFERS"


def _as_data(outcome: Outcome) -> dict[str, object]:
    return {
        "method": outcome.case.method,
        "source": outcome.case.source,
        "hyperparameters": dict(outcome.case.hyperparameters),
        "ours": outcome.ours,
        "theirs": float(outcome.case.expected["loss"]) if "loss" in outcome.case.expected else None,
        "name": outcome.case.name,
        "must_differ": outcome.case.unequal,
        "relative_errors": dict(outcome.errors),
        "tolerances": dict(outcome.tolerances),
        "passed": outcome.passed,
        "problem": outcome.problem,
    }


def _is_arrays(file: str) -> bool:
    return file.endswith(".npz")


def _array_table(outcomes: Sequence[ArrayOutcome]) -> Table:
    table = Table(title="Attacks in float64 against the arrays other libraries returned")
    for column in ("array", "must", "error", "allowed", "verdict"):
        table.add_column(column, justify="right" if column in ("error", "allowed") else "left", overflow="fold")
    for outcome in outcomes:
        must = {"equal": "equal", "differ": "differ (a documented fault)", "no_farther": "be no farther"}[outcome.rule]
        wrong = {"equal": "DIFFERS", "differ": "EQUALS A FAULT", "no_farther": "FARTHER"}[outcome.rule]
        sign = ">" if outcome.rule == "differ" else "≤"
        table.add_row(
            outcome.key,
            must,
            "-" if outcome.problem else f"{outcome.error:.1e}",
            f"{sign} {outcome.tolerance:.0e}",
            outcome.problem or ("ok" if outcome.passed else wrong),
        )
    return table


def _array_as_data(outcome: ArrayOutcome) -> dict[str, object]:
    return {
        "method": outcome.method,
        "name": outcome.key,
        "rule": outcome.rule,
        "must_differ": outcome.rule == "differ",
        "error": outcome.error if math.isfinite(outcome.error) else None,
        "tolerance": outcome.tolerance,
        "passed": outcome.passed,
        "problem": outcome.problem,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check vector files; 0 if every case passes, 1 if any differs or is unknown, 2 for a mistake in the call."""
    parser = argparse.ArgumentParser(prog="python -m kdrobust.conformance", description=__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="vector files: .json lists of cases, or sets with entries; .npz arrays of attacks",
    )
    parser.add_argument("--only", default="", help="comma-separated methods or attacks; the rest is left out")
    parser.add_argument(
        "--tolerance", type=float, default=1e-9, help="error allowed, relative for losses, absolute for pixels (1e-9)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable instead of a table")
    options = parser.parse_args(arguments)
    wanted = [name for name in options.only.split(",") if name]
    try:
        cases = [case for file in options.files if not _is_arrays(file) for case in read_cases(file)]
        files = [read_arrays(file) for file in options.files if _is_arrays(file)]
        found = {case.method for case in cases} | {key.split("/")[0] for file in files for key in file.arrays}
        absent = [name for name in wanted if name not in found]
        if absent:
            raise UsageError(f"--only: {', '.join(options.files)} has no case of {', '.join(absent)}")
    except KdrobustError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    outcomes = [check_case(case, options.tolerance) for case in cases if not wanted or case.method in wanted]
    arrays = [found for file in files for found in check_arrays(file, tolerance=options.tolerance, only=wanted)]
    if options.json:
        rows = [*map(_as_data, outcomes), *map(_array_as_data, arrays)]
        print(json.dumps(rows, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        if outcomes:
            console.print(_table(outcomes))
            console.print(f"{sum(outcome.passed for outcome in outcomes)} of {len(outcomes)} cases agree")
        if arrays:
            console.print(_array_table(arrays))
            console.print(f"{sum(outcome.passed for outcome in arrays)} of {len(arrays)} arrays agree")
    agree = all(outcome.passed for outcome in outcomes) and all(outcome.passed for outcome in arrays)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
