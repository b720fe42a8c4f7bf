#!/usr/bin/env python3
"""`docs/performance.md` out of what was measured: `python scripts/benchmarks/page.py`; `--check` only compares (CI).

What was measured is `measured.json` beside this file, the JSON of `run.py --json`, and `recipes.json`, that of
`recipes.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.report.markdown import markdown_table

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "performance.md"
Report = Mapping[str, Any]
_BF16 = "kdrobust, trainer=bf16-mixed, teacher.precision=bf16"
_LIBRARIES = ("torchattacks", "Foolbox", "ART")
_IMPORTS = "python -c 'import torch, pytorch_lightning'"


def seconds(report: Report, row: str, run: str) -> float:
    """A run's median wall time.

    Raises:
        KeyError: it was not measured.
    """
    return statistics.median(report["rows"][row][run]["seconds"])


def ratio(report: Report, row: str, base: str, run: str) -> float:
    """How many times faster than another run of the same row."""
    return seconds(report, row, base) / seconds(report, row, run)


def _over_libraries(report: Report) -> float:
    name = "pgd20_wide_cnn"
    present = [library for library in _LIBRARIES if "seconds" in report["rows"][name].get(library, {})]
    ours = "kdrobust, bf16, keep=fooling, exact_steps=2"
    return min(ratio(report, name, library, ours) for library in present)


def _answers(report: Report) -> float:
    runs = ("kdrobust --help", "kdrobust list", "kdrobust distill, an unknown key")
    return max(seconds(report, "startup", run) for run in runs)


def _weakened(report: Report) -> float:
    row = report["rows"]["strength_wide_cnn"]
    return abs(row["kdrobust, fp32"]["reached"]["robust"] - row["kdrobust, exact"]["reached"]["robust"])


def _lost_in_bf16(report: Report) -> float:
    row = report["rows"]["strength_wide_cnn"]
    fast, exact = "kdrobust, bf16, keep=fooling, exact_steps=2", "kdrobust, exact, keep=fooling"
    return abs(row[fast]["reached"]["robust"] - row[exact]["reached"]["robust"])


def _grown(report: Report) -> float:
    return max(
        abs(run["reached"]["of the line"] - 1.0)
        for name, row in report["rows"].items()
        if name.startswith("scaling_")
        for run in row.values()
    )


#: What is wanted, how it is told, the number, and whether it shall be at least or at most so much.
Target = tuple[str, str, Callable[[Report], float], str, float]
TARGETS: Sequence[Target] = (
    ("RSLAD step, ResNet-18 from a live ResNet-34, over the plain loop", "{:.2f} ×",
     lambda r: ratio(r, "step_resnet18", "plain RSLAD step", _BF16), ">=", 2.3),
    ("the same, over the floor", "{:.0%}",
     lambda r: ratio(r, "step_resnet18", "floor, live teacher", _BF16), ">=", 0.8),
    ("RSLAD step, small ResNet, teacher's answers stored, over the plain loop", "{:.2f} ×",
     lambda r: ratio(r, "step_small_resnet", "plain RSLAD step", "the same, teacher's answers stored"), ">=", 6.0),
    ("attack of the digits MLP over the plain loop", "{:.2f} ×",
     lambda r: ratio(r, "attack_mlp", "plain RSLAD loop", "kdrobust, precision=auto"), ">=", 1.0),
    ("PGD-20 on a robust CNN over the fastest library", "{:.2f} ×", _over_libraries, ">=", 2.5),
    ("robust accuracy in fp32 against exact, points", "{:.2f}", _weakened, "<=", 0.1),
    ("the same in bf16 with two exact steps, first example kept", "{:.2f}", _lost_in_bf16, "<=", 0.1),
    ("suite `fast`, evaluation.precision=bf16, on ResNet-18 over the published AutoAttack", "{:.2f} ×",
     lambda r: ratio(r, "suite_resnet18", "published AutoAttack", "our cascade, bf16"), ">=", 2.0),
    ("suite `fast`, evaluation.precision=bf16, on a small CNN over the published AutoAttack", "{:.2f} ×",
     lambda r: ratio(r, "suite_small_cnn", "published AutoAttack", "our cascade, bf16"), ">=", 1.5),
    ("sweep of 12 on two processes over 12 commands", "{:.2f} ×",
     lambda r: ratio(r, "sweep", "12 commands, one after the other", "one sweep, two processes"), ">=", 1.5),
    ("Lightning, callbacks and logging over a bare loop, digits MLP", "{:+.1%}",
     lambda r: 1 / ratio(r, "framework_mlp", "bare loop", "kdrobust under Lightning") - 1, "<=", 0.15),
    ("the same, ResNet-18", "{:+.1%}",
     lambda r: 1 / ratio(r, "framework_resnet18", "bare loop", "kdrobust under Lightning") - 1, "<=", 0.05),
    ("`--help`, `list`, an unknown key, the slowest of them, seconds", "{:.2f}", _answers, "<=", 0.7),
    ("`distill` of one step on digits, all files written, beyond the bare imports, seconds", "{:.2f}",
     lambda r: seconds(r, "startup", "kdrobust distill, one step, all files written")
     - seconds(r, "startup", _IMPORTS), "<=", 2.0),
    ("peak memory of a step over the floor's (ResNet-18)", "{:.2f} ×",
     lambda r: r["rows"]["memory_resnet18"]["kdrobust, precision=auto"]["reached"]["of the floor"], "<=", 1.1),
    ("time against batch, steps, teachers: farthest from a straight line", "{:.0%}", _grown, "<=", 0.1),
    ("experiment=fast/rslad_fashion_mnist: share of the standard recipe's time", "{:.2f}",
     lambda r: r["recipes"]["processor_ratio"], "<=", 1 / 3),
    ("the same: robust accuracy given up, points", "{:.2f}",
     lambda r: -100 * r["recipes"]["robust_difference"], "<=", 0.5),
)  # fmt: skip


def targets(report: Report) -> list[tuple[str, str, str]]:
    """What is wanted, what was measured, and whether it is met."""
    told = []
    for wanted, form, number, sign, limit in TARGETS:
        goal = f"{wanted} ({sign.replace('>=', '≥').replace('<=', '≤')} {form.format(limit).replace('+', '')})"
        try:
            value = number(report)
        except (KeyError, ValueError):
            told.append((goal, "not measured", ""))
            continue
        met = value >= limit if sign == ">=" else value <= limit
        told.append((goal, form.format(value), "yes" if met else "**no**"))
    return told


def _row(row: Mapping[str, Any]) -> str:
    timed = any("seconds" in run for run in row.values())
    lines = []
    for name, run in row.items():
        if "absent" in run:
            lines.append([name, *(["", ""] if timed else []), f"not run: {run['absent']}"])
            continue
        cells = []
        if timed:
            cells = [f"{1e3 * statistics.median(run['seconds']):.1f}", f"{run['speed']:.2f}"]
        reached = ", ".join(f"{key} {value:.6g}" for key, value in run.get("reached", {}).items())
        lines.append([name, *cells, reached])
    return markdown_table([["run", *(["ms", "speed"] if timed else []), "reached"], *lines], words=None)


def page(report: Report, text: str) -> str:
    """The page: `text` with the tables in the place of its last line, `{tables}`."""
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    wanted = markdown_table([["wanted", "measured", "met"], *targets(report)], words=None)
    lines = ["## Targets", "", wanted, "", "## Rows", ""]
    lines += [f"Machine: two cores, {machine}.", ""]
    for name, row in report["rows"].items():
        settings = " ".join(report.get("settings", {}).get(name, []))
        lines += [f"### `{name}`", "", *([f"`{settings}`", ""] if settings else []), _row(row), ""]
    return text.replace("{tables}", "\n".join(lines).rstrip())


def measured() -> dict[str, Any]:
    """What is kept beside this file."""
    report: dict[str, Any] = json.loads((HERE / "measured.json").read_text(encoding="utf-8"))
    recipes = HERE / "recipes.json"
    if recipes.exists():
        report["recipes"] = json.loads(recipes.read_text(encoding="utf-8"))
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with `--check` say whether it is what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    wanted = page(measured(), (HERE / "performance.md.in").read_text(encoding="utf-8"))
    if options.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
        if not same:
            print(f"{PAGE.name}: not what scripts/benchmarks/page.py writes; run it", file=sys.stderr)
        return int(not same)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
