"""What a sweep says: settings with their seeds together, the best and its ties, and what each key matters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdrobust.errors import UsageError
from kdrobust.sweeps.record import COMPLETED, Job
from kdrobust.tracking.atomic import write_text
from kdrobust.tracking.csv_file import csv_text

METRICS = ("robust_accuracy", "accuracy", "value")
IMPORTANCE = "sweep_importance.csv"


def values_of(job: Job) -> dict[str, str]:
    """A job's overrides by key, the last one of a key counting."""
    pairs = (line.lstrip("+~").partition("=") for line in job.overrides)
    return {key.lstrip("+"): value for key, _, value in pairs}


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """The keys whose value is not the same in all jobs, in the order of the command line."""
    values = [values_of(job) for job in jobs]
    keys = dict.fromkeys(key for given in values for key in given)
    return [key for key in keys if len({given.get(key) for given in values}) > 1]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The jobs that differ in nothing but their seed.

    Attributes:
        values: swept key (but `seed`) to its value as on the command line.
        jobs: all of them, completed or not.
    """

    values: dict[str, str]
    jobs: list[Job]

    def figures(self, metric: str) -> list[float]:
        """A metric's values of the completed jobs that have one."""
        found = [getattr(job, metric) for job in self.jobs if job.status == COMPLETED]
        return [float(value) for value in found if value is not None]

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds."""
        found = self.figures(metric)
        return statistics.fmean(found) if found else None

    def std(self, metric: str) -> float | None:
        """Sample standard deviation s = √(Σ (y - ȳ)² / (n - 1)) over the seeds; None of fewer than two."""
        found = self.figures(metric)
        return statistics.stdev(found) if len(found) > 1 else None


def settings(jobs: Sequence[Job]) -> list[Setting]:
    """A sweep's settings in the order of their first jobs."""
    keys = [key for key in swept_keys(jobs) if key != "seed"]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        given = values_of(job)
        groups.setdefault(tuple(given.get(key, "") for key in keys), []).append(job)
    return [Setting(values=dict(zip(keys, key, strict=True)), jobs=group) for key, group in groups.items()]


def default_metric(jobs: Sequence[Job]) -> str:
    """The first of `METRICS` that a completed job has."""
    done = [job for job in jobs if job.status == COMPLETED]
    return next((name for name in METRICS if any(getattr(job, name) is not None for job in done)), METRICS[0])


def check_metric(name: str) -> str:
    """A metric's name if there is one of it.

    Raises:
        UsageError: there is not.
    """
    if name not in METRICS:
        raise UsageError(f"metric={name}: no such metric; there are {', '.join(METRICS)}")
    return name


def best(groups: Sequence[Setting], metric: str) -> tuple[list[Setting], list[Setting]]:
    """The settings of the highest mean, and those that cannot be told from it.

    A setting ties with the best where ȳ_b - ȳ ≤ 2 · √(s_b² / n_b + s² / n): two standard errors of the difference of
    the means over seeds. A setting of one seed has no standard error, and ties only where it is equal.

    Args:
        groups: the settings.
        metric: one of `METRICS`.

    Returns:
        Those equal to the highest mean, and the further ties, best first.
    """
    means = [(mean, group) for group in groups if (mean := group.mean(metric)) is not None]
    if not means:
        return [], []
    top, first = max(means, key=lambda pair: pair[0])
    leading = [group for mean, group in means if mean == top]
    others = sorted((pair for pair in means if pair[0] < top), key=lambda pair: -pair[0])
    return leading, [group for mean, group in others if _tied(top - mean, first, group, metric)]


def _tied(gap: float, first: Setting, other: Setting, metric: str) -> bool:
    spreads = first.std(metric), other.std(metric)
    if spreads[0] is None or spreads[1] is None:
        return False
    counts = len(first.figures(metric)), len(other.figures(metric))
    return gap <= 2.0 * math.sqrt(spreads[0] ** 2 / counts[0] + spreads[1] ** 2 / counts[1])


def importance(jobs: Sequence[Job], metric: str) -> dict[str, float | None]:
    """How much of the spread over jobs each swept key explains by itself, largest first.

    η² = Σ_v n_v (ȳ_v - ȳ)² / Σ_i (y_i - ȳ)², the variance between the means of a key's values v as a share of the
    variance over all completed jobs i: 0 for a key that changes nothing on average, 1 for one that decides everything.
    In a full grid the shares add up to at most 1; what is missing is interaction. None where all jobs are equal.
    `seed` repeats a setting and is no key to choose.

    Args:
        jobs: of one sweep.
        metric: one of `METRICS`.
    """
    done = [(values_of(job), float(getattr(job, metric))) for job in jobs if _counts(job, metric)]
    if len(done) < 2:
        return {}
    mean = statistics.fmean(value for _, value in done)
    total = sum((value - mean) ** 2 for _, value in done)
    shares: dict[str, float | None] = {}
    for key in (key for key in swept_keys(jobs) if key != "seed"):
        groups: dict[str | None, list[float]] = {}
        for given, value in done:
            groups.setdefault(given.get(key), []).append(value)
        between = sum(len(group) * (statistics.fmean(group) - mean) ** 2 for group in groups.values())
        shares[key] = between / total if total > 0 else None
    return dict(sorted(shares.items(), key=lambda pair: -(pair[1] or 0.0)))


def _counts(job: Job, metric: str) -> bool:
    return job.status == COMPLETED and getattr(job, metric) is not None


def summary_csv(jobs: Sequence[Job]) -> str:
    """One line a setting: its keys, n completed of how many jobs, mean and std of every metric, best or tie."""
    groups = settings(jobs)
    if not groups:
        return ""
    metric = default_metric(jobs)
    leading, ties = best(groups, metric)
    table: list[list[Any]] = []
    columns = [f"{name}_{figure}" for name in METRICS for figure in ("mean", "std")]
    for group in groups:
        figures = [figure for name in METRICS for figure in (group.mean(name), group.std(name))]
        place = "best" if group in leading else "tie" if group in ties else ""
        numbers = " ".join(str(job.job) for job in group.jobs)
        table.append([*group.values.values(), len(group.figures(metric)), len(group.jobs), *figures, place, numbers])
    return csv_text([*groups[0].values, "n", "of", *columns, "place", "jobs"], table)


def write_importance(folder: Path, jobs: Sequence[Job]) -> None:
    """Write `sweep_importance.csv`: key, metric, η² of every swept key."""
    metric = default_metric(jobs)
    table = [[key, metric, share] for key, share in importance(jobs, metric).items()]
    write_text(folder / IMPORTANCE, csv_text(["key", "metric", "eta_squared"], table))
