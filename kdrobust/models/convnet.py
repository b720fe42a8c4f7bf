"""Small networks: a perceptron and a plain convolutional net."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdrobust.errors import DataError
from kdrobust.models.sizes import require_counts, require_factors
from kdrobust.spec import InputSpec


def image_shape(spec: InputSpec, network: str) -> tuple[int, int, int]:
    """(channels, height, width) of the data.

    Raises:
        DataError: the data are no images.
    """
    if len(spec.shape) != 3:
        raise DataError(f"{network}: needs images (channels, height, width), the data have shape {spec.shape}")
    return spec.shape[0], spec.shape[1], spec.shape[2]


class MLP(nn.Module):
    """Perceptron with ReLU layers over the flattened input.

    Args:
        spec: the data's shape and classes.
        hidden: width of each hidden layer.

    Raises:
        NetworkSizeError: a width below 1.
    """

    def __init__(self, *, spec: InputSpec, hidden: Sequence[int] = (128, 64)) -> None:
        super().__init__()
        require_counts(hidden=hidden, empty=["hidden"])
        widths = [math.prod(spec.shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of inputs [B, ...]."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def narrowed(self, widths: Sequence[int]) -> dict[str, Any]:
        """Constructor arguments of the same network with so many units in each hidden layer."""
        return {"hidden": list(widths)}


class ConvNet(nn.Module):
    """3x3 convolutions with ReLU, the map halved after each but the first, then one hidden layer.

    Args:
        spec: the data's shape and classes.
        channels: output channels of each convolution.
        hidden: width of the hidden layer; 0 for none.
        width: factor on all of them.

    Raises:
        DataError: no images, or images too small for so many halvings.
        NetworkSizeError: channels or units below 1, a factor that is not positive.
    """

    def __init__(
        self, *, spec: InputSpec, channels: Sequence[int] = (8, 16), hidden: int = 32, width: float = 1.0
    ) -> None:
        super().__init__()
        require_counts(channels=channels, hidden=hidden, empty=["hidden"])
        require_factors(width=width)
        depth, height, across = image_shape(spec, "ConvNet")
        if min(height, across) < 2 ** (len(channels) - 1):
            raise DataError(
                f"ConvNet: {len(channels)} layers need images of at least {2 ** (len(channels) - 1)} pixels"
            )
        blocks: list[nn.Module] = []
        for number, wanted in enumerate(channels):
            planes = max(1, round(wanted * width))
            blocks += [nn.Conv2d(depth, planes, 3, stride=1 if number == 0 else 2, padding=1), nn.ReLU()]
            if number:
                height, across = (height + 1) // 2, (across + 1) // 2
            depth = planes
        if height * across > 64:
            blocks.append(nn.AvgPool2d(2))
            height, across = height // 2, across // 2
        self.features = nn.Sequential(*blocks, nn.Flatten())
        flat, middle = depth * height * across, round(hidden * width)
        self.hidden = nn.Sequential(nn.Linear(flat, middle), nn.ReLU()) if hidden else nn.Identity()
        self.head = nn.Linear(middle if hidden else flat, spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of images [B, C, H, W]."""
        logits: Tensor = self.head(self.hidden(self.features(inputs)))
        return logits

    def narrowed(self, widths: Sequence[int]) -> dict[str, Any]:
        """Constructor arguments of the same network with so many channels, then hidden units where it has such."""
        has_hidden = not isinstance(self.hidden, nn.Identity)
        channels = list(widths[:-1] if has_hidden else widths)
        return {"channels": channels, "hidden": widths[-1] if has_hidden else 0, "width": 1.0}
