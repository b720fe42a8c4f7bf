"""What seeds say: means with intervals, differences seed by seed, and p-values that know how many were asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

#: Corrected p-values below are called beyond seed noise.
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: the mean.
        low: lower end of Student's t interval; None with fewer than two seeds.
        high: upper end; None with fewer than two seeds.
        n: how many seeds.
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Difference(Mean):
    """A mean difference of two methods over the seeds both have.

    Attributes:
        p: two-sided, of the paired t test; None with fewer than two seeds.
        corrected: `p` after Holm's correction among the differences that were asked for together.
    """

    p: float | None
    corrected: float | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether it is more than seeds make."""
        return self.corrected is not None and self.corrected < LEVEL


def mean_over_seeds(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean and Student's t interval: `m ± t(1/2 + c/2; n-1)·s/√n`.

    The interval is about training with other seeds; test samples and teachers are the same for all.

    Args:
        values: one a seed.
        confidence: coverage, in (0, 1).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values: a mean needs at least one seed")
    half = _half(values, confidence)
    mean = fmean(values)
    ends = (None, None) if half is None else (mean - half, mean + half)
    return Mean(value=mean, low=ends[0], high=ends[1], n=len(values))


def _half(values: Sequence[float], confidence: float) -> float | None:
    if len(values) < 2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], confidence: float = 0.95
) -> Difference | None:
    """First minus second, paired by seed: a seed fixes the order of the data and the student's first weights.

    Args:
        first: seed to figure.
        second: seed to figure.
        confidence: coverage of the t interval, in (0, 1).

    Returns:
        None where they share no seed.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    gaps = [first[seed] - second[seed] for seed in seeds]
    mean = mean_over_seeds(gaps, confidence)
    return Difference(value=mean.value, low=mean.low, high=mean.high, n=mean.n, p=_p_value(gaps))


def _p_value(gaps: Sequence[float]) -> float | None:
    if len(gaps) < 2:
        return None
    from scipy.stats import t

    error = stdev(gaps) / math.sqrt(len(gaps))
    if error == 0:
        return 1.0 if gaps[0] == 0 else 0.0
    return float(2 * t.sf(abs(fmean(gaps)) / error, len(gaps) - 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number, so that the chance of any false alarm stays below the level.

    The i-th smallest of m is multiplied by m - i + 1, made at least as large as the one before it, and cut at 1.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p))
        corrected[name] = largest
    return corrected


def corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Differences with their p-values corrected for how many there are, see `holm`; None stays None."""
    values = holm({str(place): found.p for place, found in enumerate(differences) if found and found.p is not None})
    return [found and replace(found, corrected=values.get(str(place))) for place, found in enumerate(differences)]
