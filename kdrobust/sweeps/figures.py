"""The figures a sweep compares, read from a run's `result.json`. No heavy import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
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


def teacher_seconds(folder: Path, started: str, ended: str) -> float:
    """For how long within a job the teachers of its run were being trained, in seconds.

    Args:
        folder: the job's run folder.
        started: when the job began, ISO 8601.
        ended: when it ended.
    """
    teacher = read_json(folder / "result.json").get("teacher")
    if not isinstance(teacher, Mapping):
        return 0.0
    nodes = [teacher, *(node for node in teacher.values() if isinstance(node, Mapping))]
    places = {Path(str(node["checkpoint"])).parent for node in nodes if node.get("checkpoint")}
    return sum(_overlap(read_json(place / "status.json"), started, ended) for place in places)


def _overlap(status: Mapping[str, Any], started: str, ended: str) -> float:
    try:
        first, last = (datetime.fromisoformat(str(status[key])) for key in ("started", "ended"))
        begin, end = max(first, datetime.fromisoformat(started)), min(last, datetime.fromisoformat(ended))
        return max(0.0, (end - begin).total_seconds())
    except (KeyError, ValueError, TypeError):
        return 0.0
