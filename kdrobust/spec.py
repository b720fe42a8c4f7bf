"""What a data set tells a model: the shape of one input, and the classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The interface between data and models.

    Attributes:
        shape: shape of one input without the batch, images as (channels, height, width).
        classes: number of classes K; labels are 0 .. K-1.
        mean: per-channel mean of the training pixels, in [0, 1]; what a normalising model subtracts.
        std: per-channel standard deviation of the training pixels.
        class_names: one name a class, for tables and plots.
    """

    shape: tuple[int, ...]
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
