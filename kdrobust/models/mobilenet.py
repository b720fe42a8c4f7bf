"""MobileNet-V2 with the CIFAR strides."""

from __future__ import annotations

from torch import Tensor, nn

from kdrobust.models.convnet import image_shape
from kdrobust.models.sizes import require_factors
from kdrobust.spec import InputSpec

#: expansion, channels, blocks, stride of the first
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _unit(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    unit = nn.Sequential(conv, nn.BatchNorm2d(outside))
    if active:
        unit.append(nn.ReLU6())
    return unit


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; added to the input where shapes allow."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inside * expansion
        parts = [_unit(inside, middle, 1)] if expansion != 1 else []
        parts += [_unit(middle, middle, 3, stride, groups=middle), _unit(middle, outside, 1, active=False)]
        self.body = nn.Sequential(*parts)
        self.residual = stride == 1 and inside == outside

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, inside, H, W] to [B, outside, H/stride, W/stride]."""
        values: Tensor = self.body(inputs)
        return inputs + values if self.residual else values


class MobileNetV2(nn.Module):
    """MobileNet-V2 for small images: the stem and the second stage keep the map's size.

    Args:
        spec: the data's shape and classes.
        width: factor on all channels.

    Source: Sandler et al., CVPR 2018, arXiv:1801.04381.
    """

    def __init__(self, *, spec: InputSpec, width: float = 1.0) -> None:
        super().__init__()
        require_factors(width=width)
        channels, _, _ = image_shape(spec, "MobileNetV2")
        inside = max(1, round(32 * width))
        layers: list[nn.Module] = [_unit(channels, inside, 3)]
        for expansion, wanted, count, stride in _STAGES:
            outside = max(1, round(wanted * width))
            for number in range(count):
                layers.append(InvertedResidual(inside, outside, stride if number == 0 else 1, expansion))
                inside = outside
        last = max(1, round(1280 * width))
        self.features = nn.Sequential(*layers, _unit(inside, last, 1))
        self.head = nn.Linear(last, spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of images [B, C, H, W]."""
        logits: Tensor = self.head(self.features(inputs).mean(dim=(2, 3)))
        return logits
