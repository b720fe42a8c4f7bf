"""Calibration: whether a model is right as often as it says it is, without attack and under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrobust.evaluation.outcome import AttackOutcome, Evaluation, Floats

#: Number of bins of Guo et al. 2017.
BINS = 15


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How confidence and accuracy agree.

    Attributes:
        n: samples.
        ece: expected calibration error, in [0, 1]; None without samples.
        nll: mean negative log-likelihood of the true class in nats; None without samples or where it was not recorded.
        confidence: mean confidence, in [0, 1]; above the accuracy: the model is overconfident. None without samples.
        accuracy: share of samples whose predicted class is the true one; None without samples.
        bin_counts: [M] samples in the bins ((m-1)/M, m/M].
        bin_confidence: [M] mean confidence in each bin; None in an empty one.
        bin_accuracy: [M] accuracy in each bin; None in an empty one.
    """

    n: int
    ece: float | None
    nll: float | None
    confidence: float | None
    accuracy: float | None
    bin_counts: tuple[int, ...]
    bin_confidence: tuple[float | None, ...]
    bin_accuracy: tuple[float | None, ...]


def calibration(
    confidence: ArrayLike, correct: ArrayLike, *, nll: ArrayLike | None = None, bins: int = BINS
) -> Calibration:
    """Expected calibration error over M bins of equal width, and the reliability diagram's numbers.

    `ECE = Σ_m |B_m|/N · |acc(B_m) - conf(B_m)|`, where B_m holds the samples with confidence in ((m-1)/M, m/M]
    (a confidence of 0 goes to the first bin).

    Args:
        confidence: [N] probability of the predicted class, in [0, 1].
        correct: [N] bool, the predicted class is the true one.
        nll: [N] negative log-likelihood of the true class, in nats.
        bins: M.

    Raises:
        ValueError: lengths that differ, no bins, or a confidence outside [0, 1].

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, equations 2 to 5.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    if sure.shape != right.shape or sure.ndim != 1:
        raise ValueError(f"expected a verdict for every confidence, got shapes {right.shape} and {sure.shape}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    # float32 softmax may exceed 1 by a rounding error
    if not bool(((sure >= 0.0) & (sure <= 1.0 + 1e-5)).all()):
        raise ValueError("a confidence is a probability in [0, 1]; softmax the logits first")
    n, sure = len(sure), sure.clip(max=1.0)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    counts: NDArray[np.int64] = np.bincount(place, minlength=bins)
    sums: NDArray[np.float64] = np.zeros(bins)
    hits: NDArray[np.float64] = np.zeros(bins)
    np.add.at(sums, place, sure)
    np.add.at(hits, place, right)
    return Calibration(
        n=n,
        ece=float(np.abs(hits - sums).sum() / n) if n else None,
        nll=None if nll is None or not n else float(np.mean(np.asarray(nll, dtype=np.float64))),
        confidence=float(sure.mean()) if n else None,
        accuracy=float(right.mean()) if n else None,
        bin_counts=tuple(int(count) for count in counts),
        bin_confidence=_shares(sums, counts),
        bin_accuracy=_shares(hits, counts),
    )


def _shares(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(float(total / count) if count else None for total, count in zip(sums, counts, strict=True))


_KEYS = ("predicted", "confidence", "nll")


def _seen(evaluation: Evaluation, outcome: AttackOutcome | None) -> dict[str, Floats] | None:
    """What the model answered to x, or to x'; a sample that was wrong without attack was shown as it is."""
    if any(key not in evaluation.answers for key in _KEYS):
        return None
    clean = {key: evaluation.answers[key] for key in _KEYS}
    if outcome is None:
        return clean
    # x' of a minimum-norm attack sits on the decision boundary, inside ε or not: its confidence says nothing
    if outcome.minimum_norm or any(key not in outcome.extra for key in _KEYS):
        return None
    return {key: np.where(evaluation.clean, outcome.extra[key], clean[key]) for key in _KEYS}


def _judge(evaluation: Evaluation, seen: dict[str, Floats] | None, bins: int) -> Calibration | None:
    if seen is None or not all(bool(np.isfinite(seen[key]).all()) for key in ("predicted", "confidence")):
        return None
    right = seen["predicted"].astype(np.int64) == evaluation.labels
    nll = seen["nll"] if bool(np.isfinite(seen["nll"]).all()) else None
    return calibration(seen["confidence"], right, nll=nll, bins=bins)


def calibrations(evaluation: Evaluation, *, bins: int = BINS) -> dict[str, Calibration | None]:
    """Calibration without attack (`clean`), under each attack by its name, and in the `worst_case`.

    A sample that is wrong without attack is not attacked and counts with its clean answer. The worst case takes each
    sample's x' with the highest negative log-likelihood. x' is what the attack returned: one that stops at the first
    success leaves the confidence of that moment, one that climbs to the end a higher one. Minimum-norm attacks stop on
    the decision boundary and are left out, so that the worst case's accuracy here may lie above the evaluation's.

    Args:
        evaluation: what `evaluate` or `merge` returned.
        bins: number of bins of the calibration error.

    Returns:
        None where there is nothing to judge by: answers not recorded or not finite, or a minimum-norm attack.
    """
    by_attack = {name: _seen(evaluation, outcome) for name, outcome in evaluation.attacks.items()}
    found = {"clean": _judge(evaluation, _seen(evaluation, None), bins)}
    found |= {name: _judge(evaluation, seen, bins) for name, seen in by_attack.items()}
    attacked = [seen for seen in by_attack.values() if seen is not None]
    worst = None
    if attacked:
        hardest = np.argmax(np.stack([np.nan_to_num(seen["nll"], nan=np.inf) for seen in attacked]), axis=0)
        rows = np.arange(len(evaluation))
        worst = {key: np.stack([seen[key] for seen in attacked])[hardest, rows] for key in _KEYS}
    return {**found, "worst_case": _judge(evaluation, worst, bins)}
