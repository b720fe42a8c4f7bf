"""Security curves: accuracy against the size of the perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.outcome import Evaluation

#: Points of a stored curve.
POINTS = 101


@dataclass(frozen=True, kw_only=True)
class SecurityCurve:
    """Accuracy at every ε, with its numbers in one place.

    Attributes:
        eps: [M] radii, ascending, in the unit of the attack's norm (pixels in [0, 1]).
        accuracy: [M] share of samples that no perturbation found up to ε changes.
        low: [M] lower ends of the Wilson intervals, each ε for itself.
        high: [M] upper ends.
        n: samples.
        clean: accuracy at ε = 0; None without samples.
        auc: mean accuracy over 0 .. `limit`, in [0, 1]; None without samples.
        eps50: smallest ε at which at most half of all samples stand; 0 where the clean accuracy is no more, None where
            it is not reached by `limit`.
        limit: largest ε the curve speaks of.
        exact: from minimum distances; otherwise from attacks at the radii listed, straight lines between them.
    """

    eps: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    clean: float | None
    auc: float | None
    eps50: float | None
    limit: float
    exact: bool


def security_curve(
    distances: ArrayLike,
    clean: ArrayLike,
    *,
    limit: float,
    eps: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> SecurityCurve:
    """The whole curve from one run of a minimum-norm attack.

    `A(ε) = #{i: clean_i and d_i > ε} / N`. `auc = 1/N Σ_i clean_i · min(d_i, limit) / limit`, exactly, whatever radii
    the curve is drawn at. As every attack's, the distances are upper bounds of the true ones, and so is the curve.

    Args:
        distances: [N] ‖x' - x‖ of the nearest adversarial example found; NaN or infinite where none was.
        clean: [N] bool, correct without attack.
        limit: largest ε, above 0.
        eps: radii to store, in 0 .. limit, ascending; None: 101 from 0 to `limit`.
        confidence: coverage of the intervals, in (0, 1).

    Raises:
        ValueError: lengths that differ, a limit of 0 or less, a negative distance, radii out of order or of range.
    """
    found, right = np.asarray(distances, dtype=np.float64), np.asarray(clean, dtype=np.bool_)
    if found.shape != right.shape or found.ndim != 1:
        raise ValueError(f"expected a distance for every sample, got shapes {found.shape} and {right.shape}")
    if not 0.0 < limit < np.inf:
        raise ValueError(f"limit must be a radius above 0, got {limit}")
    if bool((found < 0).any()):
        raise ValueError("a distance cannot be negative")
    radii = np.linspace(0.0, limit, POINTS) if eps is None else np.asarray(eps, dtype=np.float64)
    if len(radii) and (bool((np.diff(radii) <= 0).any()) or radii[0] < 0 or radii[-1] > limit):
        raise ValueError(f"radii must ascend from 0 to the limit {limit:g}")
    # a sample wrong without attack falls at once; ε = 0 leaves the others standing
    fall = np.where(right, np.nan_to_num(found, nan=np.inf, posinf=np.inf), -1.0)
    n, ordered = len(fall), np.sort(fall)
    standing: NDArray[np.int64] = n - np.searchsorted(ordered, radii, side="right")
    if len(radii) and radii[0] == 0.0:
        standing[0] = int(right.sum())
    half = ordered[(n - 1) // 2] if n else np.inf
    return SecurityCurve(
        eps=tuple(radii.tolist()),
        **_shares(standing.tolist(), n, confidence),
        n=n,
        clean=float(right.mean()) if n else None,
        auc=min(1.0, float((np.clip(fall, 0.0, limit) / limit).mean())) if n else None,
        eps50=max(0.0, float(half)) if half <= limit else None,
        limit=float(limit),
        exact=True,
    )


def _shares(standing: Sequence[int], n: int, confidence: float) -> dict[str, Any]:
    ends = [wilson(int(hits), n, confidence) for hits in standing]
    return {
        "accuracy": tuple(hits / max(1, n) for hits in standing),
        "low": tuple(low for low, _ in ends),
        "high": tuple(high for _, high in ends),
    }


def fixed_eps_curve(eps: Sequence[float], correct: Sequence[int], n: int, *, confidence: float = 0.95) -> SecurityCurve:
    """The curve through attacks at several radii, straight between them.

    Args:
        eps: [M] radii, ascending, at least one; begin with 0 (no attack) for the clean accuracy.
        correct: [M] samples still correct at each.
        n: samples at each.
        confidence: coverage of the intervals, in (0, 1).

    Raises:
        ValueError: no radii, radii out of order, or not as many counts.
    """
    if not len(eps) or len(eps) != len(correct):
        raise ValueError(f"expected a count for every radius, got {len(correct)} for {len(eps)}")
    if eps[0] < 0 or any(after <= before for before, after in pairwise(eps)):
        raise ValueError("radii must be 0 or more and ascend")
    shares = _shares(correct, n, confidence)
    accuracy, radii = np.asarray(shares["accuracy"]), np.asarray(eps, dtype=np.float64)
    span = float(radii[-1] - radii[0])
    area = float((np.diff(radii) * (accuracy[1:] + accuracy[:-1]) / 2).sum())
    return SecurityCurve(
        eps=tuple(radii.tolist()),
        **shares,
        n=n,
        clean=float(accuracy[0]) if n and radii[0] == 0 else None,
        auc=min(1.0, area / span) if n and span else None,
        eps50=_crossing(radii, accuracy) if n else None,
        limit=float(radii[-1]),
        exact=False,
    )


def _crossing(radii: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float | None:
    below = np.flatnonzero(accuracy <= 0.5)
    if not len(below):
        return None
    at = int(below[0])
    if at == 0:
        return float(radii[0])
    before, after = accuracy[at - 1], accuracy[at]
    return float(radii[at - 1] + (before - 0.5) / (before - after) * (radii[at] - radii[at - 1]))


def exact_curves(
    evaluation: Evaluation, *, limit: float | None = None, confidence: float = 0.95
) -> dict[str, SecurityCurve]:
    """The curve of every minimum-norm attack of an evaluation, by the attack's name.

    A sample counts as broken at its distance only where the model's answer to x' is wrong.

    Args:
        evaluation: what `evaluate` or `merge` returned.
        limit: largest ε; None: four times the attack's own.
        confidence: coverage of the intervals, in (0, 1).
    """
    curves = {}
    for name, outcome in evaluation.attacks.items():
        if not outcome.minimum_norm or "predicted" not in outcome.extra:
            continue
        wrong = outcome.extra["predicted"] != evaluation.labels
        distances = np.where(evaluation.clean & wrong, outcome.distance, np.nan)
        reach = 4.0 * outcome.eps if limit is None else limit
        if 0.0 < reach < np.inf:
            curves[name] = security_curve(distances, evaluation.clean, limit=reach, confidence=confidence)
    return curves
