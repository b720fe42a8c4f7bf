"""Cells and tables of the benchmark's page."""

from __future__ import annotations

from collections.abc import Sequence

from kdrobust.benchmark.rows import Row
from kdrobust.benchmark.statistics import Mean

_LEVEL = 0.05


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its heading first."""
    rule = ["---", *("---:" for _ in lines[0][1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def percent(value: float | None) -> str:
    """A share in per cent, one digit; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def interval(mean: Mean) -> str:
    """`63.1 [62.0, 64.2]`, in per cent."""
    ends = "" if mean.low is None else f" [{percent(mean.low)}, {percent(mean.high)}]"
    return percent(mean.value) + ends


def told_difference(row: Row) -> str:
    """`+1.2 [+0.3, +2.1], p = 0.02`, in percentage points."""
    found = row.difference
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f}"
    if found.low is None or found.high is None or row.p is None:
        return f"{text} (one seed)"
    text += f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}], p {'< 0.001' if row.p < 0.001 else f'= {row.p:.3f}'}"
    return f"**{text}**" if row.p < _LEVEL else text


def named(row: Row) -> str:
    """A row's method and its point of the grid."""
    return f"`{row.method}`" + "".join(f" {key.rpartition('.')[2]}={value}" for key, value in row.values.items())
