"""Figures of a detector from its scores, each with an interval; a higher score says "attacked"."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kdrobust.errors import DataError
from kdrobust.intervals import wilson

Scores = npt.NDArray[np.floating]
_DRAWS = 1000


def auroc(negatives: Scores, positives: Scores) -> float:
    r"""The chance that an attacked input scores higher than a clean one, ties counted half; 0.5 knows nothing.

    $\frac{1}{mn} \sum_{i,j} [p_j > q_i] + \frac12 [p_j = q_i]$.

    Args:
        negatives: scores of clean inputs q, [m].
        positives: scores of attacked inputs p, [n].

    Raises:
        ValueError: either is empty.
    """
    if not len(negatives) or not len(positives):
        raise ValueError("AUROC needs clean and attacked inputs")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left").sum(dtype=np.int64)
    upto = np.searchsorted(ordered, positives, side="right").sum(dtype=np.int64)
    return float(below + upto) / (2.0 * len(negatives) * len(positives))


def auroc_interval(value: float, negatives: int, positives: int, confidence: float = 0.95) -> tuple[float, float]:
    r"""Newcombe's method 5: the θ with $|\theta - \hat\theta| \le z \sqrt{V(\theta)}$; not degenerate at 0 and 1.

    $V(\theta) = \frac{\theta(1-\theta)}{mn} \left(1 + N \frac{1-\theta}{2-\theta} + N \frac{\theta}{1+\theta}\right)$
    with $N = (m+n)/2 - 1$: Hanley and McNeil's variance, symmetrised. Where the attacked inputs come from the clean
    ones, as here, the two groups are not independent; the interval does not know that.

    Args:
        value: $\hat\theta$, in [0, 1].
        negatives: m.
        positives: n.
        confidence: coverage, in (0, 1).

    Source: Newcombe, Statistics in Medicine 25 (2006), 559-573; Hanley & McNeil, Radiology 143 (1982), 29-36.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    mean = (negatives + positives) / 2.0 - 1.0

    def misses(theta: float) -> bool:
        spread = 1.0 + mean * (1.0 - theta) / (2.0 - theta) + mean * theta / (1.0 + theta)
        variance = theta * (1.0 - theta) * spread / (negatives * positives)
        return abs(theta - value) > z * math.sqrt(max(variance, 0.0))

    ends = []
    for outside in (0.0, 1.0):
        inside = value
        for _ in range(60):
            middle = (inside + outside) / 2.0
            inside, outside = (inside, middle) if misses(middle) else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]


def average_precision(negatives: Scores, positives: Scores) -> float:
    r"""Average precision with as many attacked as clean inputs, whatever their numbers here; 0.5 knows nothing.

    $\sum_k (T_k - T_{k-1}) \frac{T_k}{T_k + F_k}$ over the thresholds, falling, with $T$ the true- and $F$ the
    false-positive rate. Plain average precision moves with the share of attacked inputs, which differs from attack to
    attack; this one does not.

    Args:
        negatives: scores of clean inputs, [m].
        positives: scores of attacked inputs, [n].

    Raises:
        ValueError: either is empty.
    """
    if not len(negatives) or not len(positives):
        raise ValueError("average precision needs clean and attacked inputs")
    thresholds = np.unique(positives)[::-1]
    hits = 1.0 - np.searchsorted(np.sort(positives), thresholds, side="left") / len(positives)
    alarms = 1.0 - np.searchsorted(np.sort(negatives), thresholds, side="left") / len(negatives)
    return float((np.diff(hits, prepend=0.0) * hits / (hits + alarms)).sum())


def precision_interval(value: float, positives: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval of an average precision: Wilson's, as if it were a share of the attacked inputs.

    Args:
        value: the average precision, in [0, 1].
        positives: attacked inputs.
        confidence: coverage, in (0, 1).

    Source: the binomial interval of Boyd, Eng & Page, ECML PKDD 2013, with Wilson's in the place of Wald's, which
        has no width at 1.
    """
    low, high = wilson(round(value * positives), positives, confidence)
    return min(low, value), max(high, value)


def auroc_difference(
    first: tuple[Scores, Scores], second: tuple[Scores, Scores], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """How much the second detector's AUROC lies above the first's on the same inputs, with its interval.

    Args:
        first: scores of clean and of attacked inputs.
        second: the other detector's, in the same order.
        confidence: coverage of the percentile interval over 1,000 paired bootstrap samples; 0 wide where both
            detectors are perfect.
        seed: of the bootstrap.

    Returns:
        Difference, lower and upper end.

    Raises:
        ValueError: other numbers of inputs.
    """
    if [len(part) for part in first] != [len(part) for part in second]:
        raise ValueError("a paired difference needs both detectors' scores of the same inputs")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_DRAWS):
        rows = [random.integers(len(part), size=len(part)) for part in first]
        one, other = (auroc(pair[0][rows[0]], pair[1][rows[1]]) for pair in (first, second))
        found.append(other - one)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return auroc(*second) - auroc(*first), float(low), float(high)


def threshold_at(scores: Scores, rate: float) -> float:
    """The lowest threshold that at most this share of clean scores lies above: what is above it is flagged.

    Args:
        scores: of clean validation inputs, [N].
        rate: wanted false-positive rate, in (0, 1).

    Raises:
        DataError: so few inputs that not one may be flagged: the rate cannot be told from 0.
    """
    allowed = math.floor(rate * len(scores) + 1e-9)
    if allowed < 1:
        raise DataError(
            f"fpr={rate:g}: {len(scores)} clean validation inputs cannot fix it; take at least {1 / len(scores):.2g}"
            if len(scores)
            else f"fpr={rate:g}: no clean validation inputs to fix it with"
        )
    return float(np.sort(scores)[len(scores) - allowed - 1])


def share(count: int, n: int, confidence: float = 0.95) -> dict[str, object]:
    """A share with Wilson's interval, as plain values; the share is None of nothing."""
    return {
        "count": count,
        "n": n,
        "share": count / n if n else None,
        "interval": list(wilson(count, n, confidence)),
    }
