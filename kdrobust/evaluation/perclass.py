"""Accuracy class by class, and the class that fares worst; the mean of clean and robust accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrobust.evaluation.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class WorstClass:
    """The class with the lowest accuracy; of equals the one with the smallest label.

    Attributes:
        label: the class.
        accuracy: its share of correct samples, in [0, 1].
        interval: Wilson interval, widened for having picked the lowest of K classes (Bonferroni: coverage
            `1 - (1 - confidence) / K`). The true accuracy of a class picked for being low tends to be a little higher.
    """

    label: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ClassAccuracies:
    """Accuracy of each class.

    Attributes:
        labels: the K classes that have samples, ascending.
        n: [K] samples of each.
        correct: [K] how many of them are classified correctly.
        low: [K] lower ends of the Wilson intervals, each class for itself.
        high: [K] upper ends.
        worst: the class with the lowest accuracy; None without samples.
    """

    labels: tuple[int, ...]
    n: tuple[int, ...]
    correct: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    worst: WorstClass | None

    @property
    def accuracy(self) -> tuple[float, ...]:
        """[K] shares in [0, 1]."""
        return tuple(correct / n for correct, n in zip(self.correct, self.n, strict=True))


def per_class(labels: ArrayLike, correct: ArrayLike, *, confidence: float = 0.95) -> ClassAccuracies:
    """Count correct samples class by class.

    Args:
        labels: [N] integers.
        correct: [N] bool.
        confidence: coverage of the intervals, in (0, 1).

    Raises:
        ValueError: lengths that differ.
    """
    truth, right = np.asarray(labels), np.asarray(correct, dtype=np.bool_)
    if truth.shape != right.shape or truth.ndim != 1:
        raise ValueError(f"expected a verdict for every label, got shapes {right.shape} and {truth.shape}")
    present, places = np.unique(truth, return_inverse=True)
    n: NDArray[np.int64] = np.bincount(places, minlength=len(present))
    hits: NDArray[np.int64] = np.bincount(places[right], minlength=len(present))
    ends = [wilson(int(hit), int(count), confidence) for hit, count in zip(hits, n, strict=True)]
    worst = None
    if len(present):
        at = int(np.argmin(hits / n))
        family = 1.0 - (1.0 - confidence) / len(present)
        interval = wilson(int(hits[at]), int(n[at]), family)
        worst = WorstClass(label=int(present[at]), accuracy=float(hits[at] / n[at]), interval=interval)
    return ClassAccuracies(
        labels=tuple(int(label) for label in present),
        n=tuple(int(count) for count in n),
        correct=tuple(int(hit) for hit in hits),
        low=tuple(low for low, _ in ends),
        high=tuple(high for _, high in ends),
        worst=worst,
    )


def w_robust(clean: float, robust: float) -> float:
    """Mean of clean and robust accuracy, `(A_clean + A_robust) / 2`: one number for the trade-off between the two.

    Args:
        clean: accuracy without attack, a share in [0, 1].
        robust: accuracy under attack, a share in [0, 1]; the worst case unless stated otherwise.

    Source: W-Robust of Zhao et al., "Enhanced Accuracy and Robustness via Multi-Teacher Adversarial Distillation",
        ECCV 2022, with both weights at one half.
    """
    return (clean + robust) / 2.0
