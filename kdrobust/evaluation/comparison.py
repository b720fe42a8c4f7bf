"""Two models on the same samples: what one gets right and the other does not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.outcome import Evaluation
from kdrobust.evaluation.result import per_sample

Samples = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired comparison of two shares.

    Attributes:
        column: what is compared: `clean`, `worst_case` or an attack's name.
        n: samples.
        both: correct in both.
        only_first: correct in the first only.
        only_second: correct in the second only.
        neither: correct in neither.
        difference: first minus second accuracy, in [-1, 1]; None without samples.
        interval: of the difference (`paired_interval`).
        p_value: of McNemar's exact test: how surprising so uneven a split would be between equally good models.
        confidence: coverage of the interval.
    """

    column: str
    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float | None
    interval: tuple[float, float]
    p_value: float
    confidence: float


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    Of the b + c samples on which two models disagree, each is as likely to favour the one as the other if they are
    equally good: `p = min(1, 2·P(X ≤ min(b, c)))`, X binomial(b + c, 1/2). Samples on which they agree say nothing.

    Args:
        only_first: b, right in the first only.
        only_second: c, right in the second only.

    Raises:
        ValueError: a negative count.

    Source: McNemar, Psychometrika 12 (1947), 153-157; recommended for comparing two classifiers on one test set by
        Dietterich, Neural Computation 10 (1998), 1895-1923.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts cannot be negative, got {only_first} and {only_second}")
    n = only_first + only_second
    ways = term = 1
    for k in range(min(only_first, only_second)):
        term = term * (n - k) // (k + 1)
        ways += term
    # integers of any length: exact until this division
    return min(1.0, (2 * ways) / (1 << n))


def paired_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two shares measured on the same samples.

    With the Wilson intervals (l1, u1), (l2, u2) of the two shares p1, p2 and φ their correlation (its numerator lowered
    by n/2, not below 0, where positive; φ = 0 where a margin is empty):
    `[D - sqrt((p1-l1)² - 2φ(p1-l1)(u2-p2) + (u2-p2)²), D + sqrt((u1-p1)² - 2φ(u1-p1)(p2-l2) + (p2-l2)²)]`, D = p1 - p2.
    Unlike the interval from the standard error it stays within [-1, 1] and has a width where the models never disagree.

    Args:
        both: correct in both.
        only_first: correct in the first only.
        only_second: correct in the second only.
        neither: correct in neither.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end; (-1, 1) without samples.

    Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
        data", Statistics in Medicine 17 (1998), 2635-2650, method 10.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return -1.0, 1.0
    first, second = both + only_first, both + only_second
    p1, p2 = first / n, second / n
    (l1, u1), (l2, u2) = wilson(first, n, confidence), wilson(second, n, confidence)
    margins = first * (n - first) * second * (n - second)
    excess = both * neither - only_first * only_second
    corrected = max(0.0, excess - n / 2) if excess > 0 else float(excess)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = p1 - p2
    return max(-1.0, difference - reach(p1 - l1, u2 - p2)), min(1.0, difference + reach(u1 - p1, p2 - l2))


def samples_hash(samples: Samples) -> str:
    """SHA-256 of indices and labels: evaluations with the same one are of the same samples."""
    digest = hashlib.sha256()
    for key in ("indices", "labels"):
        digest.update(np.asarray(samples[key]).astype("<i8").tobytes())
    return digest.hexdigest()


def read_samples(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a `samples.npz`.

    Raises:
        RunFolderError: it is missing, damaged, or not of an evaluation.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            samples = dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise RunFolderError(f"{path}: cannot be read as samples of an evaluation ({error})") from None
    missing = sorted({"indices", "labels", "clean", "worst_case"} - set(samples))
    if missing:
        raise RunFolderError(f"{path}: has no {missing[0]!r}; expected the samples.npz of stage `evaluate`")
    return samples


def compare(
    first: Evaluation | Samples,
    second: Evaluation | Samples,
    *,
    column: str = "worst_case",
    confidence: float = 0.95,
) -> Comparison:
    """Compare two models sample by sample: far sharper than two intervals side by side.

    Args:
        first: an evaluation, or its `per_sample` arrays (`read_samples`).
        second: the same samples under another model.
        column: `clean`, `worst_case` or the name of an attack both were evaluated under.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        UsageError: evaluations of different samples or threats, or a column one of them has not.
    """
    threats = [side.threat for side in (first, second) if isinstance(side, Evaluation)]
    if column != "clean" and len(threats) == 2 and threats[0] != threats[1]:
        raise UsageError(f"comparison: {column!r} was measured under two threats, {threats[0]} and {threats[1]}")
    one, other = (per_sample(side) if isinstance(side, Evaluation) else side for side in (first, second))
    hashes = samples_hash(one), samples_hash(other)
    if hashes[0] != hashes[1]:
        raise UsageError(
            f"comparison: the evaluations are of different samples ({hashes[0][:12]}, {hashes[1][:12]}); "
            "evaluate both models with the same data, evaluation.num_samples and evaluation.seed"
        )
    for side in (one, other):
        if column not in side or np.asarray(side[column]).dtype != np.bool_ or "/" in column:
            known = [key for key, values in side.items() if np.asarray(values).dtype == np.bool_ and "/" not in key]
            raise UsageError(f"comparison: no verdicts called {column!r}; there are {', '.join(known)}")
    a, b = one[column], other[column]
    both, only_first, only_second, neither = (int(side.sum()) for side in (a & b, a & ~b, ~a & b, ~a & ~b))
    n = len(a)
    return Comparison(
        column=column,
        n=n,
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
        difference=(only_first - only_second) / n if n else None,
        interval=paired_interval(both, only_first, only_second, neither, confidence),
        p_value=mcnemar(only_first, only_second),
        confidence=confidence,
    )
