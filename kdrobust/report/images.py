"""Images on an axis, and the names of classes above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def as_array(values: ArrayLike) -> NDArray[Any]:
    """Numbers as an array; tensors with a graph or on a device do not become arrays by themselves."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def show_image(axis: Any, image: NDArray[Any], *, difference: bool = False) -> None:
    """Draw one image without ticks, in a thin frame.

    Args:
        axis: of matplotlib.
        image: [1 or 3, H, W] in [0, 1].
        difference: a single channel is a change around 0.5: negative and positive get two colours.
    """
    # orange and purple, apart for every kind of colour vision; grey tells nothing from 0
    colours = "PuOr" if difference else "gray"
    picture = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    axis.imshow(picture, cmap=colours, vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color("#CCCCCC")


def short_name(class_names: Sequence[str], label: int, *, longest: int = 12) -> str:
    """A class's name, cut to `longest` characters; its number where it has no name."""
    name = str(class_names[label]) if 0 <= label < len(class_names) else str(label)
    return name if len(name) <= longest else name[: longest - 1] + "…"
