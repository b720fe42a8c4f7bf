"""Records of several seeds as one row: means with intervals, and the difference from what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import Record, current, read_records, records_path
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
        means: over seeds, by figure: `robust` is the share of test samples right under every attack, `clean` the share
            right without attack, `w_robust` the mean of both.
        differences: of the same figures, this row's minus the other's over the seeds both have, corrected among the
            rows of the same student; None without one.
        against: the row it is compared with, for readers; "" where it is that row itself.
    """

    method: str
    student: str
    values: Mapping[str, str]
    records: Sequence[Record]
    means: Mapping[str, Mean]
    differences: Mapping[str, Difference | None]
    against: str = ""

    @property
    def robust(self) -> Mean:
        """What the row is ranked by."""
        return self.means["robust"]

    @property
    def difference(self) -> Difference | None:
        """Of what the row is ranked by."""
        return self.differences["robust"]

    @property
    def by_seed(self) -> dict[int, float]:
        """Its robust accuracy, seed by seed."""
        return {record["seed"]: share(record, "robust") for record in self.records}

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


def _balanced(record: Record) -> float:
    from kdrobust.evaluation import w_robust

    return w_robust(share(record, "clean"), share(record, "robust"))


#: What rows are compared in.
_FIGURES: Mapping[str, Callable[[Record], float]] = {
    "robust": lambda record: share(record, "robust"),
    "clean": lambda record: share(record, "clean"),
    "w_robust": _balanced,
}


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
        means={name: mean_over_seeds(list(_by_seed(mine, figure).values())) for name, figure in _FIGURES.items()},
        differences={
            name: paired_difference(_by_seed(mine, figure), _by_seed(compared, figure))
            for name, figure in _FIGURES.items()
        },
        against="" if other == place else named,
    )


def _by_seed(records: Mapping[int, Record], figure: Callable[[Record], float]) -> dict[int, float]:
    return {seed: figure(record) for seed, record in records.items()}


def _corrected(rows: Sequence[Row], student: str) -> list[Row]:
    mine = [row for row in rows if row.student == student]
    by_figure = {name: corrected([row.differences[name] for row in mine]) for name in _FIGURES}
    return [
        replace(row, differences={name: found[place] for name, found in by_figure.items()})
        for place, row in enumerate(mine)
    ]


def read_all(suite: Suite, results: Path) -> dict[str, list[Record]]:
    """Every block's records by its name, without those of an earlier state of the suite.

    Raises:
        DataError: a damaged file.
    """
    return {
        name: current(jobs_of(suite, block), read_records(records_path(results, suite.name, name)))
        for name, block in suite.blocks.items()
    }
