"""The figures a sweep compares, read from a run's `result.json`. No heavy import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdrobust.sweeps.record import read_json


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _evaluated(evaluation: Mapping[str, Any]) -> tuple[float | None, float | None]:
    clean, worst = evaluation.get("clean") or {}, evaluation.get("worst_case") or {}
    return _number(clean.get("accuracy")), _number(worst.get("accuracy"))


def accuracies(result: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Clean and robust accuracy in [0, 1] of a result; None where it has none.

    A training tells those of its best epoch on the validation split; an evaluation those of the test samples, robust
    meaning right under every attack; a pipeline the mean over its distilled students.

    Args:
        result: content of `result.json`.
    """
    validation = result.get("validation")
    if isinstance(validation, Mapping):
        return _number(validation.get("accuracy")), _number(validation.get("robust_accuracy"))
    if isinstance(result.get("evaluation"), Mapping):
        return _evaluated(result["evaluation"])
    models = result.get("models")
    if isinstance(models, list) and models:
        pairs = [_evaluated(entry.get("evaluation") or {}) for entry in models[-1].get("results", [])]
        return _mean([clean for clean, _ in pairs]), _mean([robust for _, robust in pairs])
    return None, None


def read_accuracies(folder: Path) -> tuple[float | None, float | None]:
    """`accuracies` of the result in a run folder."""
    return accuracies(read_json(folder / "result.json"))
