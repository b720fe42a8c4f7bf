"""Reliability diagrams: how often a model is right when it says how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kdrobust.evaluation.calibration import Calibration
from kdrobust.report.rows import attack_title
from kdrobust.report.style import BLUE, GREY, VERMILLION, figure, percent_axis

if TYPE_CHECKING:
    from pathlib import Path


def reliability_diagram(
    panels: Mapping[str, Calibration | Mapping[str, Any] | None], path: str | Path, *, title: str = "Calibration"
) -> None:
    """Draw accuracy against confidence, one panel a condition, with the share of samples in each bin beneath.

    Bars on the diagonal are calibrated; hatched is the gap that the calibration error sums up.

    Args:
        panels: by condition (`clean`, an attack's name, `worst_case`), a `Calibration` or its dict in a result. None
            and those without samples are left out.
        path: of the PNG.
        title: above the panels.

    Raises:
        ValueError: nothing to draw.
        RunFolderError: the PNG cannot be written.
    """
    read = {
        name: asdict(panel) if isinstance(panel, Calibration) else panel
        for name, panel in panels.items()
        if panel is not None
    }
    read = {name: panel for name, panel in read.items() if panel["n"]}
    if not read:
        raise ValueError("a reliability diagram needs confidences of at least one sample")
    with figure(path, width=0.6 + 3.2 * len(read), height=4.5) as drawn:
        drawn.get_layout_engine().set(wspace=0.08)
        axes = drawn.subplots(2, len(read), squeeze=False, height_ratios=[3.2, 1], sharex=True, sharey="row")
        for column, (name, panel) in enumerate(read.items()):
            _panel(axes[0][column], axes[1][column], panel)
            axes[0][column].set_title(attack_title(name))
        axes[0][0].set_ylabel("accuracy in the bin")
        axes[1][0].set_ylabel("samples")
        for axis in axes[1]:
            axis.set_xlabel("confidence")
        handles, labels = axes[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower left", ncols=3 if len(read) > 1 else 2, fontsize=8.5)
        drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)


def _panel(above: Any, below: Any, panel: Mapping[str, Any]) -> None:
    counts = np.asarray(panel["bin_counts"])
    bins = len(counts)
    left, filled = np.arange(bins) / bins, counts > 0
    right, sure = (
        np.asarray([np.nan if value is None else value for value in panel[key]], dtype=np.float64)
        for key in ("bin_accuracy", "bin_confidence")
    )
    width = 1.0 / bins
    place = (left + width / 2)[filled]
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.0, zorder=3)
    above.bar(place, right[filled], width=0.94 * width, color=BLUE, label="accuracy")
    over = np.clip(sure - right, 0.0, None)[filled]
    under = np.clip(right - sure, 0.0, None)[filled]
    for gap, bottom, face, edge, name in (
        (over, right[filled], "#FBE3D6", VERMILLION, "too sure by"),
        (under, sure[filled], "none", "white", "not sure enough by"),
    ):
        above.bar(
            place, gap, width=0.94 * width, bottom=bottom, facecolor=face, edgecolor=edge, hatch="////", linewidth=0.6,
        )  # fmt: skip
        above.bar(
            [0.0],
            [0.0],
            facecolor=BLUE if face == "none" else face,
            edgecolor=edge,
            hatch="////",
            label=name,
            width=0.0,
        )
    nll = "" if panel["nll"] is None else f", NLL {panel['nll']:.2f}"
    told = f"ECE {100 * panel['ece']:.1f} %{nll}"
    above.set_title(told, loc="right", fontsize=8.5, fontweight="normal")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    below.bar(left + width / 2, counts / panel["n"], width=0.94 * width, color="#9DB7C9")
    for value, colour, style, name in (
        (panel["accuracy"], BLUE, "-", "mean accuracy"),
        (panel["confidence"], VERMILLION, "--", "mean confidence"),
    ):
        below.axvline(value, color=colour, linestyle=style, linewidth=1.8)
        # one legend for both rows
        above.plot([], [], color=colour, linestyle=style, linewidth=1.8, label=name)
    below.set_ylim(0, 1)
    for axis in (above.yaxis, below.yaxis, below.xaxis):
        percent_axis(axis)
    above.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    below.set_yticks([0, 0.5, 1.0])
    below.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
