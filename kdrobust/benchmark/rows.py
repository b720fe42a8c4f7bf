"""Records of several seeds as one row: means with intervals, and the difference from what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from kdrobust.benchmark.records import Record, read_records, records_path
from kdrobust.benchmark.statistics import Difference, Mean, holm, mean_over_seeds, paired_difference
from kdrobust.benchmark.suite import Block, Suite

#: Corrected p-values below are called beyond seed noise.
_LEVEL = 0.05
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
        difference: robust minus the other's, over the seeds both have; None without one.
        p: the difference's p-value after Holm's correction among the rows of the same student.
    """

    method: str
    student: str
    values: Mapping[str, str]
    records: Sequence[Record]
    robust: Mean
    clean: Mean
    against: str = ""
    difference: Difference | None = None
    p: float | None = field(default=None)

    @property
    def beyond_noise(self) -> bool:
        """Whether the difference is more than seeds make."""
        return self.difference is not None and self.p is not None and self.p < _LEVEL

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
    rows = [corrected for student in suite.students for corrected in _corrected(rows, student)]
    order = list(suite.students)
    return sorted(rows, key=lambda row: (order.index(row.student), -row.robust.value))


def _row(suite: Suite, block: Block, place: Place, seeds: Mapping[Place, Mapping[int, Record]], first: Any) -> Row:
    method, student, values = place
    baseline = block.baseline or suite.baseline
    has_baseline = baseline in block.methods
    other: Place = (baseline, student, values) if has_baseline else (method, student, first)
    mine = seeds[place]
    difference = None
    if other != place and other in seeds:
        difference = paired_difference(_robust(mine), _robust(seeds[other]))
    named = baseline if has_baseline else " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in first)
    return Row(
        method=method,
        student=student,
        values=dict(values),
        records=[mine[seed] for seed in sorted(mine)],
        robust=mean_over_seeds([share(record, "robust") for record in mine.values()]),
        clean=mean_over_seeds([share(record, "clean") for record in mine.values()]),
        against="" if other == place else named,
        difference=difference,
    )


def _robust(records: Mapping[int, Record]) -> dict[int, float]:
    return {seed: share(record, "robust") for seed, record in records.items()}


def _corrected(rows: Sequence[Row], student: str) -> list[Row]:
    mine = [row for row in rows if row.student == student]
    known = {
        str(place): row.difference.p
        for place, row in enumerate(mine)
        if row.difference and row.difference.p is not None
    }
    values = holm(known)
    return [Row(**{**vars(row), "p": values.get(str(place))}) for place, row in enumerate(mine)]


def read_all(suite: Suite, results: Path) -> dict[str, list[Record]]:
    """Every block's records by its name.

    Raises:
        DataError: a damaged file.
    """
    return {name: read_records(records_path(results, suite.name, name)) for name in suite.blocks}
