"""Security curves: accuracy against ε, several models on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kdrobust.evaluation.curve import SecurityCurve
from kdrobust.report.rows import number_text
from kdrobust.report.style import CYCLE, GREY, figure, percent_axis

if TYPE_CHECKING:
    from pathlib import Path

_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


def security_plot(
    curves: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    norm: str = "linf",
    eps: float | None = None,
    chance: float | None = None,
    reach: float | None = None,
    confidence: float = 0.95,
    bounds: Sequence[float] = (0.0, 1.0),
) -> None:
    """Draw security curves: lines for exact ones, points for attacks at single radii, both with their Wilson intervals.

    Curves of one `name` share a colour. Radii beyond `reach` get a narrow panel of their own with a logarithmic axis:
    there every curve must fall to the ground, and one that does not is wrong.

    Args:
        curves: each `name`, `curve` (a `SecurityCurve`, or the dict that stands for it in a result), and optionally
            `unreliable`: a trust check failed; the name gets a † and the line is dashed.
        path: of the PNG.
        norm: `linf` or `l2`.
        eps: the threat's radius, marked by a vertical line.
        chance: accuracy of guessing, 1/K, marked by a horizontal line.
        reach: largest ε of the main panel; None: four times `eps`, or all of it.
        confidence: coverage of the intervals, for the caption.
        bounds: (lo, hi) of valid values, in whose unit ε is; [0, 1] are pixels.

    Raises:
        ValueError: no curve with samples.
        RunFolderError: the PNG cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    drawn_ones = [(entry, _plain(entry["curve"])) for entry in curves]
    drawn_ones = [(entry, curve) for entry, curve in drawn_ones if curve["n"] and len(curve["eps"])]
    if not drawn_ones:
        raise ValueError("a security plot needs at least one curve with samples")
    end = max(curve["eps"][-1] for _, curve in drawn_ones)
    near = min(end, reach if reach is not None else 4.0 * eps if eps else end)
    far = end > 1.25 * near and near > 0
    pixels = tuple(bounds) == (0.0, 1.0)
    unit = 255 if pixels and norm == "linf" and (eps is None or abs(255 * eps - round(255 * eps)) < 1e-6) else 1
    with figure(path, width=7.6 if far else 6.4, height=4.1) as drawn:
        axes = drawn.subplots(1, 2 if far else 1, sharey=True, squeeze=False, width_ratios=[4, 1.1] if far else [1])[0]
        names = list(dict.fromkeys(str(entry["name"]) for entry, _ in drawn_ones))
        for axis, begin, stop in zip(axes, (0.0, near), (near or 1.0, end), strict=False):
            axis.grid(axis="y")
            if chance is not None:
                axis.axhline(chance, color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1)
            for entry, curve in drawn_ones:
                colour = CYCLE[names.index(str(entry["name"])) % len(CYCLE)]
                _one(axis, curve, colour, begin, stop, doubtful=bool(entry.get("unreliable", False)))
            for place, name in enumerate(names):
                clean = _best(name, drawn_ones)["clean"]
                if clean is not None:
                    style = {"linewidth": 0.9, "linestyle": (0, (6, 3)), "alpha": 0.6, "zorder": 1}
                    axis.axhline(clean, color=CYCLE[place % len(CYCLE)], **style)
        main = axes[0]
        main.set_xlim(0, near or 1.0)
        main.set_ylim(0, 1)
        percent_axis(main.yaxis)
        main.set_ylabel("samples classified correctly")
        main.set_xlabel(
            f"ε ({_NORMS.get(norm, norm)}, {'pixels' if pixels else 'values'} in [{bounds[0]:g}, {bounds[1]:g}])"
        )
        main.xaxis.set_major_locator(MaxNLocator(5))
        if unit == 255 and near * 255 <= 100:
            ticks = [tick for tick in MaxNLocator(6, integer=True).tick_values(0, near * 255) if tick <= near * 255]
            main.set_xticks([tick / 255 for tick in ticks], [f"{tick:g}/255" if tick else "0" for tick in ticks])
        if eps is not None and 0 < eps <= near:
            main.axvline(eps, color="#444444", linewidth=1.0, zorder=0)
            main.annotate(
                f"threat: ε = {number_text(eps)}", (eps, 0.0), (-3, 4), textcoords="offset points", va="bottom",
                ha="right", rotation=90, fontsize=8.5, color="#444444",
            )  # fmt: skip
        if chance is not None:
            main.annotate(
                "chance", (0.0, chance), (4, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="left", va="bottom", fontsize=8.5, color=GREY,
            )  # fmt: skip
        if far:
            _far_end(axes[1], near, end)
        for place, name in enumerate(names):
            main.plot([], [], color=CYCLE[place % len(CYCLE)], label=_label(name, drawn_ones, unit))
        main.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.3, fontsize=9)
        drawn.suptitle("Accuracy against the attack's strength", x=0.01, ha="left", fontweight="bold", fontsize=11)
        drawn.supxlabel(_caption(drawn_ones, confidence), x=0.01, ha="left", fontsize=8.5, color="#444444")


def _plain(curve: SecurityCurve | Mapping[str, Any]) -> Mapping[str, Any]:
    return asdict(curve) if isinstance(curve, SecurityCurve) else curve


def _one(axis: Any, curve: Mapping[str, Any], colour: str, begin: float, stop: float, *, doubtful: bool) -> None:
    eps, accuracy, low, high = (np.asarray(curve[key], dtype=np.float64) for key in ("eps", "accuracy", "low", "high"))
    if curve["exact"]:
        axis.fill_between(eps, low, high, color=colour, alpha=0.15, linewidth=0, step="post")
        # between stored radii the curve is a stair whose steps are not kept
        axis.plot(eps, accuracy, color=colour, linestyle="--" if doubtful else "-", drawstyle="steps-post")
    else:
        axis.plot(eps, accuracy, color=colour, linewidth=1.0, linestyle=":")
        # markers may stand on the frame but not outside it, where layout would make room for them
        inside = (eps >= begin) & (eps <= stop)
        spread = [(accuracy - low)[inside].clip(min=0), (high - accuracy)[inside].clip(min=0)]
        axis.errorbar(
            eps[inside], accuracy[inside], yerr=spread, color=colour, marker="o", markersize=4.5, elinewidth=1.2,
            markerfacecolor="white" if doubtful else colour, linestyle="none", clip_on=False, zorder=3,
        )  # fmt: skip


def _best(name: str, curves: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Mapping[str, Any]:
    """The curve a model is summed up by: an exact one, if it has one, then the one of most samples."""
    mine = [curve for entry, curve in curves if str(entry["name"]) == name]
    return max(mine, key=lambda curve: (bool(curve["exact"]), int(curve["n"])))


def _label(name: str, curves: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], unit: int) -> str:
    best = _best(name, curves)
    doubtful = any(entry.get("unreliable", False) for entry, _ in curves if str(entry["name"]) == name)
    parts = [f"{name} †" if doubtful else name]
    if best["auc"] is not None:
        parts.append(f"mean {100 * best['auc']:.1f} % to {number_text(float(best['limit']))}")
    half = best["eps50"]
    radius = "" if half is None else f"{255 * half:.1f}/255" if unit == 255 else f"{half:.3g}"
    parts.append(f"half stand at {radius}" if radius else "half never fall")
    return f"{parts[0]}: {', '.join(parts[1:])}"


def _far_end(axis: Any, near: float, end: float) -> None:
    axis.set_xscale("log")
    axis.set_xlim(near, end)
    axis.minorticks_off()
    axis.set_xticks([near, end], ["", number_text(end) if end < 1 else f"{end:g}"])
    axis.set_xlabel("large ε (log)")
    axis.spines["left"].set_linestyle((0, (2, 2)))
    axis.tick_params(axis="y", length=0)


def _caption(curves: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], confidence: float) -> str:
    n = " or ".join(f"{count:,}" for count in sorted({int(curve["n"]) for _, curve in curves}))
    notes = [f"n = {n}; bands and bars: {100 * confidence:g} % Wilson interval; long dashes: accuracy without attack"]
    kinds = {bool(curve["exact"]) for _, curve in curves}
    kind = {True: "lines: minimum distances", False: "points: attacks at single ε"}
    notes.append(", ".join(kind[exact] for exact in (True, False) if exact in kinds))
    if any(entry.get("unreliable", False) for entry, _ in curves):
        notes.append("†, dashed or hollow: failed a trust check")
    return "\n".join([notes[0], "; ".join(notes[1:])])
