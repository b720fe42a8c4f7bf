"""Plots of one run and of a comparison, as PNG files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kdrobust.errors import RunFolderError
from kdrobust.report.images import as_array, short_name, show_image
from kdrobust.report.rows import Row, attack_title, read_row, threat_text
from kdrobust.report.style import BLUE, CYCLE, GREY, ORANGE, VERMILLION, figure, percent_axis

Curve = tuple[list[float], list[float]]
_ACCURACIES = (
    ("val/accuracy", "validation, clean", BLUE, "-"),
    ("val/robust_accuracy", "validation, attacked", VERMILLION, "-"),
    ("train/accuracy", "training, clean", BLUE, ":"),
    ("train/robust_accuracy", "training, attacked", VERMILLION, ":"),
)
#: Of a training without labels.
_AGREEMENTS = (
    ("val/agreement", "as the teacher, clean", BLUE, "-"),
    ("val/robust_agreement", "as the teacher, attacked", VERMILLION, "-"),
)


def _read_curves(metrics_csv: str | Path) -> dict[str, Curve]:
    try:
        with Path(metrics_csv).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RunFolderError(f"{metrics_csv}: cannot be read ({error.strerror}); has the run begun?") from None
    curves: dict[str, Curve] = {}
    for row in rows:
        for key, text in row.items():
            if key not in ("epoch", "step") and text and row.get("epoch"):
                value = float(text)
                if math.isfinite(value):
                    epochs, values = curves.setdefault(key, ([], []))
                    epochs.append(float(row["epoch"]) + 1.0)
                    values.append(value)
    return curves


def _best(curves: Mapping[str, Curve]) -> tuple[float, float, str] | None:
    for key, label in (
        ("val/robust_accuracy", "attacked"),
        ("val/accuracy", "clean"),
        ("val/robust_agreement", "attacked"),
    ):
        if key in curves:
            epochs, values = curves[key]
            place = values.index(max(values))
            return epochs[place], values[place], label
    return None


def training_curves(metrics_csv: str | Path, path: str | Path) -> None:
    """Draw a run's losses, accuracies and learning rate over the epochs; the best epoch is marked.

    Args:
        metrics_csv: the run's `metrics.csv`, one row an epoch: `epoch` (from 0), `train/loss`, `train/terms/<name>`,
            `val/accuracy`, `val/robust_accuracy`, `lr...`; absent columns are left out. Without accuracies, as of a
            training without labels, `val/agreement` and `val/robust_agreement` stand in their place.
        path: of the PNG.

    Raises:
        RunFolderError: `metrics_csv` cannot be read, or the PNG cannot be written.
    """
    curves = _read_curves(metrics_csv)
    rates = [key for key in curves if key.startswith("lr")]
    terms = [key for key in curves if key.startswith("train/terms/")]
    panels = [*(["loss"] if "train/loss" in curves else []), "accuracy", *(["rate"] if rates else [])]
    widths = {"loss": 1.0, "accuracy": 1.15, "rate": 0.75}
    with figure(path, width=3.7 * len(panels), height=3.3) as drawn:
        axes = drawn.subplots(1, len(panels), squeeze=False, width_ratios=[widths[panel] for panel in panels])[0]
        for panel, axis in zip(panels, axes, strict=True):
            axis.grid(axis="y")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            last = max((epochs[-1] for epochs, _ in curves.values()), default=1.0)
            axis.set_xlim(1.0, last) if last > 1.0 else axis.set_xlim(0.5, 1.5)
            axis.margins(x=0)
            if panel == "loss":
                _losses(axis, curves, terms)
            elif panel == "accuracy":
                _accuracies(axis, curves)
            else:
                for place, key in enumerate(rates):
                    _draw(axis, curves[key], color=CYCLE[place % len(CYCLE)])
                axis.set_title("Learning rate")
                axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_ylim(bottom=0)


def _draw(axis: Any, curve: Curve, **style: Any) -> None:
    # a line through one point is invisible
    axis.plot(*curve, marker="o" if len(curve[0]) == 1 else None, markersize=4, **style)


def _losses(axis: Any, curves: Mapping[str, Curve], terms: Sequence[str]) -> None:
    _draw(axis, curves["train/loss"], color="black", label="objective")
    # a single term is the objective itself, up to its weight
    for place, key in enumerate(terms if len(terms) > 1 else ()):
        name = key.removeprefix("train/terms/").replace("_", " ")
        _draw(axis, curves[key], color=CYCLE[place % len(CYCLE)], linestyle="--", label=f"{name} (unweighted)")
    axis.set_title("Training loss")
    axis.set_ylabel("loss")
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axis.legend()


def _accuracies(axis: Any, curves: Mapping[str, Curve]) -> None:
    labelled = any(key in curves for key, *_ in _ACCURACIES)
    for key, label, colour, style in _ACCURACIES if labelled else _AGREEMENTS:
        if key in curves:
            _draw(axis, curves[key], color=colour, linestyle=style, label=label, alpha=1.0 if style == "-" else 0.7)
    axis.set_title("Accuracy" if labelled else "Agreement")
    axis.set_ylabel("samples classified correctly" if labelled else "answered as the teacher does")
    axis.set_ylim(0, 1)
    percent_axis(axis.yaxis)
    best = _best(curves)
    if best is not None:
        epoch, value, label = best
        axis.axvline(epoch, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
        told = f"best epoch {epoch:.0f}: {100 * value:.1f} % {label}"
        axis.plot(
            [epoch],
            [value],
            "o",
            clip_on=False,
            color=VERMILLION if label == "attacked" else BLUE,
            markersize=6,
            label=told,
        )
    axis.legend(loc="lower right", frameon=True, framealpha=0.85, edgecolor="none")


def adversarial_grid(
    clean: ArrayLike,
    adversarial: ArrayLike,
    labels: ArrayLike,
    predictions_clean: ArrayLike,
    predictions_adversarial: ArrayLike,
    class_names: Sequence[str],
    eps_text: str,
    path: str | Path,
) -> None:
    """Draw images, what an attack added to them, and the attacked images, each with the model's answer.

    Args:
        clean: [N, C, H, W] in [0, 1], arrays or tensors, C of 1 or 3; the first 8 are drawn.
        adversarial: x', the same shape.
        labels: [N] integers.
        predictions_clean: [N] integers, the answers to `clean`.
        predictions_adversarial: [N] integers, the answers to `adversarial`.
        class_names: names by class; numbers where it is too short.
        eps_text: the threat in words, e.g. `ℓ∞, ε = 8/255`.
        path: of the PNG.

    Raises:
        ValueError: no samples, or inputs that are no images.
        RunFolderError: the PNG cannot be written.
    """
    before, after, truth = as_array(clean), as_array(adversarial), as_array(labels)
    if before.ndim != 4 or before.shape[1] not in (1, 3) or not len(before):
        raise ValueError(f"expected images [N, 1 or 3, H, W], got shape {before.shape}")
    count = min(8, len(before))
    before, after = before[:count].astype(np.float64), after[:count].astype(np.float64)
    largest = float(np.abs(after - before).max())
    gain = 0.5 / largest if largest > 0 else 1.0
    pictures = (before, (0.5 + (after - before) * gain).clip(0, 1), after)
    answers = (as_array(predictions_clean), None, as_array(predictions_adversarial))
    names = ("clean", f"change\n× {gain:.3g}", "attacked")
    with figure(path, width=1.25 * count + 0.7, height=4.5) as drawn:
        drawn.suptitle(f"Adversarial examples ({eps_text})", x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = drawn.subplots(3, count, squeeze=False)
        for line, (images, answer, name) in enumerate(zip(pictures, answers, names, strict=True)):
            for column in range(count):
                axis = axes[line][column]
                show_image(axis, images[column], difference=answer is None)
                if answer is not None:
                    right = int(answer[column]) == int(truth[column])
                    told = f"{'✓' if right else '✗'} {short_name(class_names, int(answer[column]))}"
                    axis.set_title(told, fontsize=9, loc="center", color="#00694D" if right else "#B03A00", pad=3)
            axes[line][0].set_ylabel(name, fontsize=10, rotation=0, ha="right", va="center", labelpad=8)


#: Colours of the attacks in a comparison, in order, the clean one first; grey beyond.
_ATTACKS = (BLUE, ORANGE, VERMILLION, *CYCLE[2:4], "#8C564B", CYCLE[5], "#882255", "#999933", "#332288")
#: So many names fit beside the title.
_BESIDE = 4
#: Inches: a bar, the figure, a legend's handle with its space, and a letter of nine points.
_BAR, _WIDTH, _HANDLE, _LETTER = 0.235, 8.0, 0.55, 0.08
#: Letters of a model's name in a line.
_NAME = 26


def comparison(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the accuracies of models without attack and under each attack, as grouped bars.

    Whiskers are Wilson intervals over the samples; where a row has several seeds, bars are means and dots the seeds.

    Args:
        rows: see `kdrobust.report.read_row`.
        path: of the PNG.

    Raises:
        ValueError: no rows.
        RunFolderError: the PNG cannot be written.
    """
    from matplotlib.patches import Patch

    read = [read_row(row) for row in rows]
    if not read:
        raise ValueError("a comparison needs at least one row")
    keys = [key for key in dict.fromkeys(key for row in read for key in row.figures) if key != "worst_case"]
    colours = dict(zip(keys, _ATTACKS, strict=False))
    titles = [attack_title(key) for key in keys]
    columns = max(1, min(_BESIDE, int(_WIDTH / (_HANDLE + _LETTER * max(map(len, titles))))))
    beside = len(keys) <= _BESIDE and columns >= len(keys)
    above = 0.0 if beside else 0.22 * (-(-len(keys) // columns) + 1)
    # a bar for each attack that a model met, and the space of one and a quarter between models
    bars = sum(len(row.figures.keys() & set(keys)) + 1.25 for row in read)
    with figure(path, width=_WIDTH, height=1.4 + above + _BAR * bars) as drawn:
        axis = drawn.subplots()
        ticks, y = [], 0.0
        for row in read:
            met = [key for key in keys if key in row.figures]
            ticks.append(y + (len(met) - 1) / 2)
            for key in met:
                values, colour = row.figures[key], colours.get(key, GREY)
                axis.barh(y, values.mean, height=0.86, color=colour, hatch="//" if row.reasons else None)
                low, high = values.interval
                axis.plot([low, high], [y, y], color="black", linewidth=1.2, solid_capstyle="butt")
                if values.std is not None:
                    axis.plot(values.values, [y] * row.seeds, "o", color="white", mec="black", mew=0.7, ms=3.5)
                told = f"{100 * values.mean:.1f}" + (f" ± {100 * values.std:.1f}" if values.std is not None else "")
                axis.text(max(high, *values.values) + 0.012, y, told, va="center", fontsize=9)
                y += 1.0
            y += 1.25
        axis.set_yticks(ticks, [_in_lines(f"{row.name} †" if row.reasons else row.name) for row in read])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(y - 1.35, -0.9)
        axis.set_xlim(0, 1.1)
        axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        percent_axis(axis.xaxis)
        axis.grid(axis="x")
        first, notes = _caption(read).split("\n")
        axis.set_xlabel(first)
        drawn.supxlabel(notes, x=0.01, ha="left", fontsize=8.5, color="#444444")
        handles = [Patch(color=colours.get(key, GREY), label=name) for key, name in zip(keys, titles, strict=True)]
        threats = list(dict.fromkeys(threat_text(row.setting["threat"]) for row in read))
        title = f"Accuracy ({threats[0]})" if len(threats) == 1 else "Accuracy"
        if beside:
            drawn.legend(handles=handles, loc="outside upper right", ncols=columns, fontsize=9)
            drawn.suptitle(title, x=0.01, ha="left", fontweight="bold")
        else:
            # beside the title there is no room: below it, in rows
            drawn.legend(
                handles=handles, loc="outside upper left", ncols=columns, fontsize=9, title=title, alignment="left",
                title_fontproperties={"weight": "bold", "size": "large"},
            )  # fmt: skip


def _in_lines(name: str) -> str:
    """A model's name in lines of some letters: what it is in brackets on its own, broken at hyphens and underscores."""
    if len(name) <= _NAME:
        return name
    lines = [""]
    for piece in re.findall(r" \(.*|[^ _-]*[ _-]?", name):
        if len(lines[-1]) + len(piece.rstrip()) > _NAME and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _caption(rows: Sequence[Row]) -> str:
    n = " or ".join(f"{count:,}" for count in sorted({row.n for row in rows}))
    notes = [f"lines: {100 * float(rows[0].setting['confidence']):g} % Wilson interval over the samples"]
    if max(row.seeds for row in rows) > 1:
        notes.append("dots and ±: seeds and their standard deviation")
    if any(row.reasons for row in rows):
        failed = sorted({reason.split()[0] for row in rows for reason in row.reasons})
        notes.append(f"†, hatched: unreliable, failed a trust check ({', '.join(failed)})")
    return f"test samples classified correctly (n = {n})\n" + "; ".join(notes)
