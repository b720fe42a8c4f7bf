"""A gallery of adversarial examples, the perturbation magnified, each with both answers and how sure they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kdrobust.report.images import as_array, short_name, show_image
from kdrobust.report.style import figure

if TYPE_CHECKING:
    from pathlib import Path

_RIGHT, _WRONG = "#00694D", "#B03A00"


def gallery(
    clean: ArrayLike,
    adversarial: ArrayLike,
    labels: ArrayLike,
    logits_clean: ArrayLike,
    logits_adversarial: ArrayLike,
    path: str | Path,
    *,
    class_names: Sequence[str] = (),
    threat: str = "",
    magnify: float | None = None,
    most: int = 8,
    columns: int = 2,
) -> None:
    """Draw triples: the image, what was added times k around grey, and the sum; both predictions with probabilities.

    Args:
        clean: [N, C, H, W] in [0, 1], arrays or tensors, C of 1 or 3.
        adversarial: x', the same shape.
        labels: [N] integers, the true classes.
        logits_clean: [N, K], the model's outputs on `clean`.
        logits_adversarial: [N, K], the model's outputs on `adversarial`.
        path: of the PNG.
        class_names: names by class; numbers where it is too short.
        threat: in words, e.g. `ℓ∞, ε = 8/255`.
        magnify: k; None: the largest change drawn becomes black or white.
        most: samples drawn, the first ones.
        columns: triples side by side.

    Raises:
        ValueError: no samples, inputs that are no images, or shapes that differ.
        RunFolderError: the PNG cannot be written.
    """
    before, after, truth = as_array(clean), as_array(adversarial), as_array(labels)
    if before.ndim != 4 or before.shape[1] not in (1, 3) or not len(before) or after.shape != before.shape:
        raise ValueError(f"expected two times images [N, 1 or 3, H, W], got shapes {before.shape} and {after.shape}")
    count = min(most, len(before))
    before, after = before[:count].astype(np.float64), after[:count].astype(np.float64)
    largest = float(np.abs(after - before).max())
    gain = magnify if magnify is not None else 0.5 / largest if largest > 0 else 1.0
    answers = [_answers(as_array(logits)[:count]) for logits in (logits_clean, logits_adversarial)]
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    with figure(path, width=4.1 * columns + 0.2, height=1.6 * rows + 0.7) as drawn:
        title = "Adversarial examples" + (f" ({threat})" if threat else "")
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        note = f"each: image, change × {gain:.3g} around grey, attacked image; the model's answer and its probability"
        drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")
        grid = drawn.add_gridspec(rows, columns, wspace=0.1, hspace=0.03)
        for sample in range(count):
            cell = grid[sample // columns, sample % columns].subgridspec(1, 3, wspace=0.03)
            axes = [drawn.add_subplot(cell[0, place]) for place in range(3)]
            change = (0.5 + (after[sample] - before[sample]) * gain).clip(0, 1)
            for axis, image in zip(axes, (before[sample], change, after[sample]), strict=True):
                show_image(axis, image.clip(0, 1), difference=False)
            for axis, (predicted, shares) in zip((axes[0], axes[2]), answers, strict=True):
                _caption(axis, int(predicted[sample]), float(shares[sample]), int(truth[sample]), class_names)
            axes[1].set_title(f"true: {short_name(class_names, int(truth[sample]))}", fontsize=8.5, loc="center", pad=3)
            axes[1].title.set_fontweight("normal")


def _answers(logits: Any) -> tuple[Any, Any]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares.argmax(axis=1), shares.max(axis=1)


def _caption(axis: Any, predicted: int, share: float, truth: int, class_names: Sequence[str]) -> None:
    right = predicted == truth
    told = f"{'✓' if right else '✗'} {short_name(class_names, predicted)} ({100 * share:.0f} %)"
    axis.set_title(told, fontsize=8.5, loc="center", color=_RIGHT if right else _WRONG, pad=3)
