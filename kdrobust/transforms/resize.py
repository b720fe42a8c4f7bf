"""Images of another size."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.errors import DataError
from kdrobust.spec import InputSpec


class Resize(nn.Module):
    """Images at another size, bilinear; smaller ones are averaged (antialiased), so that values stay in [0, 1].

    Differentiable: an attack that asks the teacher about x' climbs through it.

    Args:
        spec: of what is resized.
        size: side in pixels, or [height, width]; >= 1.

    Attributes:
        spec: of what comes out.

    Raises:
        DataError: the data are no images.
        ValueError: a size below 1.
    """

    def __init__(self, *, spec: InputSpec, size: int | list[int]) -> None:
        super().__init__()
        if len(spec.shape) != 3:
            raise DataError(f"Resize: is for images (channels, height, width), the data have shape {spec.shape}")
        sides = [size, size] if isinstance(size, int) else [int(side) for side in size]
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"size: expected a side, or [height, width], of at least 1 pixel, got {size}")
        self.size = sides
        self.spec = replace(spec, shape=(spec.shape[0], *sides), mean=(), std=())

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """[B, C, height, width] of images [B, C, H, W] in [0, 1]; `keys` are not looked at."""
        resized = F.interpolate(inputs, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        # the filter's weights sum to 1 up to rounding
        return resized.clamp(*self.spec.bounds)
