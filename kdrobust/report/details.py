"""What stands beside the accuracies: W-Robust, the worst class, calibration."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrobust.evaluation.intervals import wilson
from kdrobust.report.images import short_name
from kdrobust.report.rows import Row


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Further figures of one model under one attack (or `clean`, `worst_case`), means over its seeds.

    Attributes:
        worst_class: label of the class with the lowest mean accuracy; None where unknown.
        worst_accuracy: that class's mean accuracy, a share in [0, 1].
        worst_interval: its Wilson interval over one seed's samples, widened for the choice among all classes.
        ece: expected calibration error, a share in [0, 1].
        nll: negative log-likelihood in nats.
    """

    worst_class: int | None = None
    worst_accuracy: float | None = None
    worst_interval: tuple[float, float] | None = None
    ece: float | None = None
    nll: float | None = None


def w_robust_of(row: Row) -> float | None:
    """Mean W-Robust of a row's seeds, a share in [0, 1]; None where a result has none."""
    values = [result.get("w_robust") for result in row.results]
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def detail_of(row: Row, key: str) -> Detail:
    """Further figures of a row under an attack.

    Args:
        row: see `kdrobust.report.read_row`.
        key: `clean`, `worst_case`, or an attack's name.
    """
    worst = _worst([_part(result, "per_class", key) for result in row.results], row)
    calibrated = [_part(result, "calibration", key) for result in row.results]
    ece, nll = (_mean([part.get(name) if part else None for part in calibrated]) for name in ("ece", "nll"))
    return Detail(**worst, ece=ece, nll=nll)


def _part(result: Mapping[str, Any], what: str, key: str) -> Mapping[str, Any] | None:
    found = result.get(what)
    if not found:
        return None
    part: Mapping[str, Any] | None = found[key] if key in ("clean", "worst_case") else found["attacks"].get(key)
    return part


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _worst(parts: Sequence[Mapping[str, Any] | None], row: Row) -> dict[str, Any]:
    known = [part for part in parts if part]
    first = row.results[0].get("per_class") if row.results else None
    # seeds may differ in their classes only where they differ in their samples
    if not first or len(known) < len(parts) or any(len(part["correct"]) != len(first["n"]) for part in known):
        return {}
    if not first["labels"]:
        return {}
    counts = [statistics.fmean(part["correct"][place] for part in known) for place in range(len(first["n"]))]
    shares = [count / n for count, n in zip(counts, first["n"], strict=True)]
    at = shares.index(min(shares))
    family = 1.0 - (1.0 - float(row.setting["confidence"])) / len(shares)
    interval = wilson(round(counts[at]), int(first["n"][at]), family)
    return {"worst_class": int(first["labels"][at]), "worst_accuracy": shares[at], "worst_interval": interval}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def detail_lines(rows: Sequence[Row]) -> list[list[str]]:
    """The second table's header and its lines, one a model; empty where no result has further figures."""
    lines = []
    for row in rows:
        clean, worst, weighted = detail_of(row, "clean"), detail_of(row, "worst_case"), w_robust_of(row)
        if weighted is None and worst.worst_class is None and clean.ece is None:
            continue
        told = "–"
        if worst.worst_class is not None and worst.worst_interval is not None:
            low, high = worst.worst_interval
            name = short_name(row.class_names, worst.worst_class) if row.class_names else f"class {worst.worst_class}"
            told = f"{name} {_percent(worst.worst_accuracy)} [{100 * low:.1f}–{100 * high:.1f}]"
        calibrated = [*(_percent(one.ece) for one in (clean, worst)), *(_nats(one.nll) for one in (clean, worst))]
        lines.append([f"{row.name} †" if row.reasons else row.name, _percent(weighted), told, *calibrated])
    if not lines:
        return []
    titles = ["ECE clean", "ECE attacked", "NLL clean", "NLL attacked"]
    return [["model", "W-Robust", "worst class [CI]", *titles], *lines]


def detail_notes(rows: Sequence[Row]) -> list[str]:
    """What the second table's columns are."""
    if not detail_lines(rows):
        return []
    return [
        "W-Robust: mean of clean and worst-case accuracy in per cent; worst class: the lowest in the worst case, its "
        "interval widened for the choice among all classes.",
        "ECE: expected calibration error in per cent, 15 bins; NLL: negative log-likelihood in nats; attacked: each "
        "sample's x' of highest loss.",
    ]
