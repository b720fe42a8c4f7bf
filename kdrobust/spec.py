"""What a data set tells a model: the shape of one input, and the classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The interface between data and models.

    Attributes:
        shape: shape of one input without the batch, images as (channels, height, width).
        classes: number of classes K; labels are 0 .. K-1.
        bounds: (lo, hi), the range of valid values: pixels in [0, 1], sound in [-1, 1]. The threat's box is the same.
        sample_rate: values a second along the last axis, where the inputs are sound; None elsewhere.
        peak: largest absolute value that each recording was scaled to; None: as recorded, or no sound.
        mean: per-channel mean of the training inputs, within the bounds; what a normalising model subtracts.
        std: per-channel standard deviation of the training inputs.
        class_names: one name a class, for tables and plots.
    """

    shape: tuple[int, ...]
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    sample_rate: int | None = None
    peak: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long one input lasts; None where it is no sound."""
        return None if self.sample_rate is None else self.shape[-1] / self.sample_rate

    def middle(self) -> float:
        """The centre of the valid range: what stands in for an input where any will do."""
        return (self.bounds[0] + self.bounds[1]) / 2
