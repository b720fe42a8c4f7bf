"""What an evaluation says beside its accuracies, as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdrobust.evaluation.calibration import BINS, calibrations
from kdrobust.evaluation.curve import exact_curves
from kdrobust.evaluation.outcome import Bools, Evaluation
from kdrobust.evaluation.perclass import per_class, w_robust


def summary(evaluation: Evaluation, *, confidence: float = 0.95) -> dict[str, Any]:
    """W-Robust, accuracy by class, calibration and exact security curves, as they stand in an evaluation's result.

    Args:
        evaluation: what `evaluate` or `merge` returned.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        `w_robust`, `per_class`, `calibration` and `curves`; None stands where there are no samples or no answers.
    """

    def by_class(correct: Bools) -> dict[str, Any]:
        found = per_class(evaluation.labels, correct, confidence=confidence)
        worst = None if found.worst is None else asdict(found.worst)
        return {
            "correct": list(found.correct),
            "accuracy": list(found.accuracy),
            "low": list(found.low),
            "high": list(found.high),
            "worst": worst,
        }

    worst = evaluation.worst_case
    classes = per_class(evaluation.labels, worst)
    calibrated = {key: None if value is None else asdict(value) for key, value in calibrations(evaluation).items()}
    return {
        "w_robust": w_robust(float(evaluation.clean.mean()), float(worst.mean())) if len(evaluation) else None,
        "per_class": {
            "labels": list(classes.labels),
            "n": list(classes.n),
            "clean": by_class(evaluation.clean),
            "attacks": {name: by_class(outcome.correct) for name, outcome in evaluation.attacks.items()},
            "worst_case": by_class(worst),
        },
        "calibration": {
            "bins": BINS,
            "clean": calibrated["clean"],
            "attacks": {name: calibrated[name] for name in evaluation.attacks},
            "worst_case": calibrated["worst_case"],
        },
        "curves": {name: asdict(curve) for name, curve in exact_curves(evaluation, confidence=confidence).items()},
    }
