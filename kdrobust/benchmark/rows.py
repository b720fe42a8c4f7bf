"""Records of several seeds as one row: means with intervals, and the difference from what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from kdrobust.benchmark.records import Record, read_records, records_path
from kdrobust.benchmark.statistics import Difference, Mean, corrected, mean_over_seeds, paired_difference
from kdrobust.benchmark.suite import Block, Suite

#: Methods, student and point of the grid.
Place = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on a student at a point of a block's grid.

    Attributes:
        method: the entry's name.
        student: the student's name.
        values: the point of the grid.
        records: one a seed, ascending.
        robust: share of test samples right under every attack.
        clean: share right without attack.
        against: the row it is compared with, for readers; "" where it is that row itself.
        difference: robust minus the other's over the seeds both have, corrected among the rows of the same student;
            None without one.
        clean_difference: the same of the share right without attack.
    """

    method: str
    student: str
    values: Mapping[str, str]
    records: Sequence[Record]
    robust: Mean
    clean: Mean
    against: str = ""
    difference: Difference | None = None
    clean_difference: Difference | None = None

    @property
    def reasons(self) -> list[str]:
        """Why trust checks call some seed's figure unreliable; empty where none does."""
        return sorted({reason for record in self.records for reason in record["reasons"]})

    @property
    def unreliable(self) -> bool:
        """Whether a trust check failed on some seed."""
        return any(record["unreliable"] for record in self.records)

    def mean(self, figure: Callable[[Record], float | None]) -> float | None:
        """The mean over seeds of any figure; None where no seed has it."""
        known = [value for record in self.records if (value := figure(record)) is not None]
        return fmean(known) if known else None


def share(record: Mapping[str, Any], key: str) -> float:
    """A count of a record as a share of its samples."""
    return float(record[key] / record["n"])


def rows_of(suite: Suite, block: Block, records: Iterable[Record]) -> list[Row]:
    """A block's rows, students in the suite's order, the most robust first.

    Where the block's baseline, or else the suite's, is among the methods of the block it is what the others are
    compared with, at the same point of the grid; else a method is compared with itself at the grid's first point.
    """
    seeds: dict[Place, dict[int, Record]] = {}
    for record in records:
        place = (record["method"], record["student"], tuple(record["values"].items()))
        seeds.setdefault(place, {})[record["seed"]] = record
    first = tuple((key, values[0]) for key, values in block.grid.items())
    rows = [_row(suite, block, place, seeds, first) for place in seeds]
    rows = [row for student in suite.students for row in _corrected(rows, student)]
    order = list(suite.students)
    return sorted(rows, key=lambda row: (order.index(row.student), -row.robust.value))


def _row(suite: Suite, block: Block, place: Place, seeds: Mapping[Place, Mapping[int, Record]], first: Any) -> Row:
    method, student, values = place
    baseline = block.baseline or suite.baseline
    has_baseline = baseline in block.methods
    other: Place = (baseline, student, values) if has_baseline else (method, student, first)
    mine = seeds[place]
    compared = seeds.get(other, {}) if other != place else {}
    named = baseline if has_baseline else " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in first)
    return Row(
        method=method,
        student=student,
        values=dict(values),
        records=[mine[seed] for seed in sorted(mine)],
        robust=mean_over_seeds([share(record, "robust") for record in mine.values()]),
        clean=mean_over_seeds([share(record, "clean") for record in mine.values()]),
        against="" if other == place else named,
        difference=_difference(mine, compared, "robust"),
        clean_difference=_difference(mine, compared, "clean"),
    )


def _difference(mine: Mapping[int, Record], others: Mapping[int, Record], key: str) -> Difference | None:
    first, second = ({seed: share(record, key) for seed, record in records.items()} for records in (mine, others))
    return paired_difference(first, second)


def _corrected(rows: Sequence[Row], student: str) -> list[Row]:
    mine = [row for row in rows if row.student == student]
    robust = corrected([row.difference for row in mine])
    clean = corrected([row.clean_difference for row in mine])
    return [
        replace(row, difference=one, clean_difference=other)
        for row, one, other in zip(mine, robust, clean, strict=True)
    ]


def read_all(suite: Suite, results: Path) -> dict[str, list[Record]]:
    """Every block's records by its name.

    Raises:
        DataError: a damaged file.
    """
    return {name: read_records(records_path(results, suite.name, name)) for name in suite.blocks}
