"""Accuracy under common corruptions: the natural shift beside the attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdrobust.report.style import CYCLE, figure, percent_axis

if TYPE_CHECKING:
    from pathlib import Path


def corruption_bars(models: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the mean accuracy under each corruption as bars, the severities as dots on them, one colour a model.

    Args:
        models: each `name` and `result`, what `kdrobust.evaluation.corruption_result` gave. Corruptions are those of
            the first model; one that another model was not measured under is left out there.
        path: of the PNG.

    Raises:
        ValueError: no model, no corruption, or no samples.
        RunFolderError: the PNG cannot be written.
    """
    if not models or not models[0]["result"]["corruptions"] or not all(model["result"]["n"] for model in models):
        raise ValueError("corruption bars need a model, a corruption and samples")
    names = list(models[0]["result"]["corruptions"])
    thick = 0.8 / len(models)
    with figure(path, width=7.2, height=1.5 + len(names) * (0.13 + 0.21 * len(models))) as drawn:
        axis = drawn.subplots()
        for at, model in enumerate(models):
            colour, result = CYCLE[at % len(CYCLE)], model["result"]
            told = f"{model['name']}: clean {100 * result['clean']['accuracy']:.1f}, mCA {100 * result['mca']:.1f} %"
            axis.barh([0], [0], color=colour, label=told)
            axis.axvline(result["clean"]["accuracy"], color=colour, linestyle="--", linewidth=1.2, zorder=0.5)
            for place, name in enumerate(names):
                if name in result["corruptions"]:
                    _bar(axis, place - 0.4 + thick * (at + 0.5), thick, result["corruptions"][name], colour)
        _families(axis, [models[0]["result"]["corruptions"][name]["family"] for name in names])
        axis.set_yticks(range(len(names)), [name.replace("_", " ").replace("jpeg", "JPEG") for name in names])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlim(0, 1)
        percent_axis(axis.xaxis)
        axis.grid(axis="x")
        n = " or ".join(f"{count:,}" for count in sorted({int(model["result"]["n"]) for model in models}))
        axis.set_xlabel(f"corrupted samples classified correctly (n = {n} a corruption and severity)")
        columns = 2 if len(models) in (2, 4) else 1
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2, fontsize=9, ncols=columns)
        drawn.suptitle("Common corruptions", x=0.01, ha="left", fontweight="bold", fontsize=11)
        note = "bars: mean over the severities; dots: single severities, darker is more severe; dashed: clean accuracy"
        drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")


def _bar(axis: Any, y: float, thick: float, found: Mapping[str, Any], colour: str) -> None:
    axis.barh(y, found["accuracy"], height=0.84 * thick, color=colour, alpha=0.55)
    levels = sorted(found["severities"], key=int)
    shares = [found["severities"][level]["accuracy"] for level in levels]
    greys = [str(shade) for shade in np.linspace(0.95, 0.0, 5)]
    for level, share in zip(levels, shares, strict=True):
        axis.plot([share], [y], "o", color=greys[int(level) - 1], mec="black", mew=0.7, ms=4.2, clip_on=False, zorder=4)


def _families(axis: Any, families: Sequence[str]) -> None:
    borders = [place for place in range(1, len(families)) if families[place] != families[place - 1]]
    for place in borders:
        axis.axhline(place - 0.5, color="#BBBBBB", linewidth=0.8, zorder=0.4)
    for begin, end in zip([0, *borders], [*borders, len(families)], strict=True):
        axis.annotate(
            families[begin], (1.01, (begin + end - 1) / 2), xycoords=("axes fraction", "data"), rotation=270,
            va="center", ha="left", fontsize=8.5, color="#666666", annotation_clip=False,
        )  # fmt: skip
