"""Pictures of the loss around samples: along the attack, and beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdrobust.evaluation.surface import LossSurface
from kdrobust.report.images import short_name
from kdrobust.report.style import figure

if TYPE_CHECKING:
    from pathlib import Path


def loss_surface_plot(
    surface: LossSurface,
    path: str | Path,
    *,
    class_names: Sequence[str] = (),
    title: str = "Loss around the sample",
    most: int = 3,
) -> None:
    """Draw the loss over the plane of the attack's direction and a random one, with the border of the true class.

    All samples share one colour scale.

    Args:
        surface: what `kdrobust.evaluation.loss_surface` returned.
        path: of the PNG.
        class_names: names by class; numbers where it is too short.
        title: above the plot.
        most: samples drawn, the first ones.

    Raises:
        ValueError: no samples.
        RunFolderError: the PNG cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    count = min(most, len(surface.loss))
    if not count:
        raise ValueError("a plot of the loss needs at least one sample")
    shown = surface.loss[:count]
    finite = shown[np.isfinite(shown)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    with figure(path, width=3.2 * count + 1.1, height=4.3) as drawn:
        axes = drawn.subplots(1, count, squeeze=False, sharey=True)[0]
        for place, axis in enumerate(axes):
            picture = _plane(axis, surface, place, top)
            name = short_name(class_names, int(surface.labels[place]))
            middle = surface.loss.shape[1] // 2
            start, top_there = surface.loss[place, middle, middle], _at_attack(surface, place)
            told = f"{name} (sample {int(surface.indices[place])})"
            axis.set_title(told, fontsize=10)
            axis.set_title(f"{start:.2f} → {top_there:.2f}", loc="right", fontsize=9, fontweight="normal")
            axis.set_xlabel("along the attack, x' - x")
        axes[0].set_ylabel("along a random\northogonal direction")
        bar = drawn.colorbar(picture, ax=list(axes), pad=0.02, shrink=0.8, ticks=MaxNLocator(6))
        bar.set_label("cross-entropy in nats")
        bar.outline.set_visible(False)
        drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        note = (
            "unit: length of the attack's step; numbers: loss at x → at x'; "
            "white line: beyond it the true class is no longer predicted"
        )
        drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")


def _at_attack(surface: LossSurface, place: int) -> float:
    """The loss at the grid point nearest to x'."""
    steps = surface.steps
    return float(surface.loss[place, int(np.abs(steps).argmin()), int(np.abs(steps - 1.0).argmin())])


def _plane(axis: Any, surface: LossSurface, place: int, top: float) -> Any:
    from matplotlib import patheffects
    from matplotlib.ticker import MaxNLocator

    steps, loss = surface.steps, np.nan_to_num(surface.loss[place], nan=top, posinf=top)
    levels = MaxNLocator(20).tick_values(0.0, top)
    picture = axis.contourf(steps, steps, loss, levels=levels, cmap="viridis", extend="neither")
    axis.contour(steps, steps, loss, levels=levels[::2], colors="black", linewidths=0.35, alpha=0.5)
    margin = surface.margin[place]
    if np.isfinite(margin).all() and margin.min() < 0 < margin.max():
        border = axis.contour(steps, steps, margin, levels=[0.0], colors="white", linewidths=1.8)
        border.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground="black")])
    edge = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    axis.plot([0, 1], [0, 0], color="white", linewidth=1.2, linestyle=(0, (3, 2)), path_effects=edge)
    for a, mark, name in ((0.0, "o", "x"), (1.0, "X", "x'")):
        axis.plot([a], [0], mark, color="white", markeredgecolor="black", markersize=7)
        axis.annotate(
            name, (a, 0), (0, 7), textcoords="offset points", ha="center", color="white", fontweight="bold",
            path_effects=edge,
        )  # fmt: skip
    axis.set_aspect("equal")
    axis.set_xticks([-1, 0, 1])
    axis.set_yticks([-1, 0, 1])
    return picture
