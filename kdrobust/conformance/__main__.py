"""`python -m kdrobust.conformance FILE.json ... [--only a,b] [--tolerance 1e-9]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Check vector files; 0 if every case passes, 1 if any differs or is unknown, 2 for a mistake in the call."""
    parser = argparse.ArgumentParser(prog="python -m kdrobust.conformance", description=__doc__)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="vector files: JSON lists of cases, or sets with entries"
    )
    parser.add_argument("--only", default="", help="comma-separated methods; the rest is left out")
    parser.add_argument("--tolerance", type=float, default=1e-9, help="relative error allowed (default 1e-9)")
    parser.add_argument("--json", action="store_true", help="machine-readable instead of a table")
    options = parser.parse_args(arguments)
    try:
        cases = [case for file in options.files for case in read_cases(file)]
        wanted = [name for name in options.only.split(",") if name]
        absent = [name for name in wanted if name not in {case.method for case in cases}]
        if absent:
            raise UsageError(f"--only: {', '.join(options.files)} has no case of {', '.join(absent)}")
    except KdrobustError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    outcomes = [check_case(case, options.tolerance) for case in cases if not wanted or case.method in wanted]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if options.json:
        print(json.dumps([_as_data(outcome) for outcome in outcomes], indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(_table(outcomes))
        console.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
