"""Every figure that an evaluation's result can fill, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.evaluation.curve import fixed_eps_curve
from kdrobust.report.classes import class_bars
from kdrobust.report.corruption_bars import corruption_bars
from kdrobust.report.reliability import reliability_diagram
from kdrobust.report.security import security_plot


def curves_of(result: Mapping[str, Any], *, name: str) -> list[dict[str, Any]]:
    """The security curves in a result: exact ones of minimum-norm attacks, and those a trust check measured.

    Args:
        result: what `kdrobust.evaluation.to_result` gave.
        name: the model's.

    Returns:
        Entries for `kdrobust.report.security_plot`.
    """
    doubtful = bool(result["unreliable"])
    curves = [
        {"name": name, "curve": curve, "unreliable": doubtful}
        for curve in result.get("curves", {}).values()
        if curve["n"]
    ]
    for measured in _measured(result):
        confidence = float(result["confidence"])
        points = fixed_eps_curve(measured["eps"], measured["correct"], int(measured["n"]), confidence=confidence)
        curves.append({"name": name, "curve": points, "unreliable": doubtful})
    return curves


def _measured(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Numbers of trust checks that attacked at several radii, in the threat's norm."""
    for check in result["checks"]:
        found = check["measured"]
        listed = all(isinstance(found.get(key), list | tuple) and len(found[key]) > 1 for key in ("eps", "correct"))
        if listed and found.get("n") and found.get("norm", result["threat"]["norm"]) == result["threat"]["norm"]:
            yield found


def evaluation_figures(
    result: Mapping[str, Any],
    folder: str | Path,
    *,
    name: str = "model",
    class_names: Sequence[str] = (),
    classes: int | None = None,
    corruptions: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Draw accuracy by class, calibration, security curves and corruptions, as far as the result has their numbers.

    Args:
        result: what `kdrobust.evaluation.to_result` gave (`evaluation` of a `result.json`).
        folder: where the PNGs go.
        name: the model's, in legends.
        class_names: names by class; numbers where it is too short.
        classes: K, for the line of chance; None: no line.
        corruptions: what `kdrobust.evaluation.corruption_result` gave.

    Returns:
        What was drawn, name to file: some of `classes`, `calibration`, `security`, `corruptions`.

    Raises:
        RunFolderError: a PNG cannot be written.
    """
    place, files = Path(folder), dict[str, str]()
    confidence = float(result["confidence"])
    if result["n"]:
        doubtful = bool(result["unreliable"])
        class_bars(
            result["per_class"],
            place / "classes.png",
            class_names=class_names,
            unreliable=doubtful,
            confidence=confidence,
        )
        files["classes"] = "classes.png"
    calibrated = result["calibration"]
    panels = {"clean": calibrated["clean"], "worst_case": calibrated["worst_case"]}
    if any(panel and panel["n"] for panel in panels.values()):
        reliability_diagram(panels, place / "calibration.png", title=f"Calibration of {name}")
        files["calibration"] = "calibration.png"
    if curves := curves_of(result, name=name):
        threat = result["threat"]
        security_plot(
            curves,
            place / "security.png",
            norm=str(threat["norm"]),
            eps=float(threat["eps"]) or None,
            chance=1.0 / classes if classes else None,
            confidence=confidence,
            bounds=threat.get("bounds", (0.0, 1.0)),
        )
        files["security"] = "security.png"
    if corruptions is not None and corruptions["n"] and corruptions["corruptions"]:
        corruption_bars([{"name": name, "result": corruptions}], place / "corruptions.png")
        files["corruptions"] = "corruptions.png"
    return files
