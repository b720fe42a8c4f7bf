"""Accuracy class by class, clean and robust; the worst class stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdrobust.report.images import short_name
from kdrobust.report.rows import attack_title
from kdrobust.report.style import BLUE, GREY, ORANGE, VERMILLION, figure, percent_axis

if TYPE_CHECKING:
    from pathlib import Path

#: Above so many classes bars and names no longer fit.
_MOST_BARS = 24


def class_bars(
    per_class: Mapping[str, Any],
    path: str | Path,
    *,
    class_names: Sequence[str] = (),
    attack: str = "worst_case",
    title: str = "Accuracy by class",
    unreliable: bool = False,
    confidence: float = 0.95,
) -> None:
    """Draw each class's accuracy without and under attack, with Wilson intervals.

    Up to 24 classes are bars in the order of their labels; more are points in the order of their robust accuracy, the
    five worst of them named.

    Args:
        per_class: `per_class` of an evaluation's result.
        path: of the PNG.
        class_names: names by label; numbers where it is too short.
        attack: `worst_case` or an attack's name.
        title: above the plot.
        unreliable: a trust check failed: the title gets a †.
        confidence: coverage of the intervals, for the caption.

    Raises:
        ValueError: no samples.
        KeyError: no such attack.
        RunFolderError: the PNG cannot be written.
    """
    labels = list(per_class["labels"])
    if not labels:
        raise ValueError("a plot of classes needs samples")
    clean = per_class["clean"]
    robust = per_class["worst_case"] if attack == "worst_case" else per_class["attacks"][attack]
    names = [short_name(class_names, label, longest=14) for label in labels]
    worst = labels.index(robust["worst"]["label"])
    few = len(labels) <= _MOST_BARS
    with figure(path, width=min(12.0, max(5.6, 0.72 * len(labels) + 1.2)) if few else 8.0, height=3.9) as drawn:
        axis = drawn.subplots()
        axis.grid(axis="y")
        if few:
            _bars(axis, clean, robust, names, worst, attack_title(attack))
        else:
            _points(axis, clean, robust, attack_title(attack))
        axis.set_ylim(0, 1)
        percent_axis(axis.yaxis)
        axis.set_ylabel("samples classified correctly")
        drawn.legend(loc="outside upper right", ncols=3, fontsize=9)
        drawn.suptitle(f"{title} †" if unreliable else title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        low, high = robust["worst"]["interval"]
        told = f"worst class under attack: {names[worst]}, {100 * robust['worst']['accuracy']:.1f} %"
        told += f" [{100 * low:.1f}–{100 * high:.1f}, widened for {len(labels)} classes]"
        if not few:
            order = np.argsort(robust["accuracy"], kind="stable")[1:5]
            told += "; next: " + ", ".join(names[int(place)] for place in order)
        each = f"{min(per_class['n'])} to {max(per_class['n'])} samples a class"
        spread = f"{'lines' if few else 'band'}: {100 * confidence:g} % Wilson interval"
        notes = [spread, "dashed: mean of the classes", each, *(["† failed a trust check"] * unreliable)]
        drawn.supxlabel(f"{told}\n{'; '.join(notes)}", x=0.01, ha="left", fontsize=8.5, color="#444444")


def _mean(figures: Mapping[str, Any]) -> float:
    return float(np.mean(figures["accuracy"]))


def _bars(
    axis: Any, clean: Mapping[str, Any], robust: Mapping[str, Any], names: Sequence[str], worst: int, attacked: str
) -> None:
    places = np.arange(len(names))
    under = [VERMILLION if place == worst else ORANGE for place in range(len(names))]
    for shift, figures, colours in ((-0.2, clean, BLUE), (0.2, robust, under)):
        axis.bar(places + shift, figures["accuracy"], width=0.38, color=colours)
        axis.vlines(places + shift, figures["low"], figures["high"], color="black", linewidth=1.1)
    axis.bar([0], [0], color=BLUE, label="clean")
    axis.bar([0], [0], color=ORANGE, label=attacked)
    axis.bar([0], [0], color=VERMILLION, label="worst class")
    for figures, colour in ((clean, BLUE), (robust, "#B07800")):
        axis.axhline(_mean(figures), color=colour, linestyle="--", linewidth=1.0, zorder=0.5)
    turn = max(map(len, names)) > 7 and len(names) > 6
    axis.set_xticks(places, names, rotation=35 if turn else 0, ha="right" if turn else "center", rotation_mode="anchor")
    axis.tick_params(axis="x", length=0)
    chosen = axis.get_xticklabels()[worst]
    chosen.set_color("#B03A00")
    chosen.set_fontweight("bold")
    axis.set_xlim(-0.6, len(names) - 0.4)


def _points(axis: Any, clean: Mapping[str, Any], robust: Mapping[str, Any], attacked: str) -> None:
    order: NDArray[np.int64] = np.argsort(robust["accuracy"], kind="stable")
    places = np.arange(len(order))
    low, high, shares, plain = (
        np.asarray(values)[order] for values in (robust["low"], robust["high"], robust["accuracy"], clean["accuracy"])
    )
    axis.fill_between(places, low, high, color=ORANGE, alpha=0.25, linewidth=0)
    axis.plot(places, plain, "o", color=BLUE, markersize=2.6, label="clean")
    axis.plot(places, shares, color="#B07800", linewidth=1.6, label=attacked)
    axis.plot(places[:5], shares[:5], "o", color=VERMILLION, markersize=4.5, label="five worst", clip_on=False)
    axis.axhline(_mean(robust), color=GREY, linestyle="--", linewidth=1.0, zorder=0.5)
    axis.set_xlim(-1, len(order))
    axis.set_xlabel(f"{len(order)} classes, by accuracy under attack")
