"""Cells and tables of the benchmark's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdrobust.benchmark.records import Record
from kdrobust.benchmark.rows import Row, share
from kdrobust.benchmark.statistics import Difference, Mean

#: Names under which a record keeps its teacher's figures, the robust one of several first.
_TEACHERS = ("robust", "teacher")
#: A teacher whose robust accuracy is below has nothing that a student could keep.
_ROBUST = 0.1


def percent(value: float | None) -> str:
    """A share in per cent, one digit; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def interval(mean: Mean) -> str:
    """`63.1 [62.0, 64.2]`, in per cent; a share's interval ends at 0 and 100."""
    if mean.low is None or mean.high is None:
        return percent(mean.value)
    return f"{percent(mean.value)} [{percent(max(0.0, mean.low))}, {percent(min(1.0, mean.high))}]"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}"


def told_difference(found: Difference | None) -> str:
    """`+1.2 [+0.3, +2.1], p = 0.02`, in percentage points; bold beyond seed noise, empty for None."""
    if found is None:
        return ""
    if found.low is None or found.high is None or found.corrected is None:
        return f"{points(found.value)} (one seed)"
    p = "< 0.001" if found.corrected < 0.001 else f"= {found.corrected:.3f}"
    text = f"{points(found.value)} [{points(found.low)}, {points(found.high)}], p {p}"
    return f"**{text}**" if found.beyond_noise else text


def short_difference(found: Difference | None) -> str:
    """`+1.2`, in percentage points; bold beyond seed noise, empty for None."""
    if found is None:
        return ""
    return f"**{points(found.value)}**" if found.beyond_noise else points(found.value)


def named(row: Row) -> str:
    """A row's method and its point of the grid."""
    return " ".join([f"`{row.method}`", *point(row)])


def point(row: Row) -> list[str]:
    """A row's point of the grid: `alpha=0.5`, `temperature=2`."""
    return [f"{key.rpartition('.')[2]}={value}" for key, value in row.values.items()]


def kept(record: Record) -> float | None:
    """The share of the samples on which the teacher stands every attack that the student stands too.

    Returns:
        None without a teacher, or with one that is not robust.
    """
    found = taught_robustly(record)
    return None if found is None else float(found["kept"] / found["robust"])


def agreement(record: Record) -> float | None:
    """The share of clean samples that student and teacher answer alike; None without a teacher."""
    found = teacher_of(record)
    return None if found is None else share(found, "agreement")


def teacher_of(record: Record) -> Mapping[str, Any] | None:
    """A record's teacher, the robust one of several; None without one."""
    return next((record["teachers"][name] for name in _TEACHERS if name in record["teachers"]), None)


def taught_robustly(record: Record) -> Mapping[str, Any] | None:
    """A record's robust teacher; None without one, or with one that is not robust."""
    found = teacher_of(record)
    return None if found is None or share(found, "robust") < _ROBUST else found


def teachers_robust(record: Record) -> float | None:
    """How robust a record's teacher is; None without one."""
    found = teacher_of(record)
    return None if found is None else share(found, "robust")


def own_attacks(record: Record) -> list[str]:
    """The attacks on a record's student itself, not those made on its teacher."""
    return [name for name in record["attacks"] if "_from_" not in name]
