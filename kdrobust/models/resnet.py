"""Residual networks with the CIFAR stem: ResNet, pre-activation ResNet and Wide ResNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.models.convnet import image_shape
from kdrobust.models.sizes import NetworkSizeError, require_counts, require_factors
from kdrobust.spec import InputSpec


def _conv3(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)


class PostActivationBlock(nn.Module):
    """Convolution, normalisation, ReLU, twice; the sum is activated. He et al., CVPR 2016."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(inside, outside, stride), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = _conv3(outside, outside), nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outside))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, inside, H, W] to [B, outside, H/stride, W/stride]."""
        values = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(inputs)))))
        return F.relu(values + self.shortcut(inputs))


class PreActivationBlock(nn.Module):
    """Normalisation and ReLU before each convolution; the shortcut sees the activated input. He et al., ECCV 2016."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), _conv3(inside, outside, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outside), _conv3(outside, outside)
        self.projection: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.projection = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, inside, H, W] to [B, outside, H/stride, W/stride]."""
        active = F.relu(self.bn1(inputs))
        shortcut = inputs if self.projection is None else self.projection(active)
        values: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return values + shortcut


class _Pool(nn.Module):
    """The mean over all positions; a module so that feature losses can tap the pooled vector by the path `pool`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C]."""
        return inputs.mean(dim=(2, 3))


class _Residual(nn.Module):
    """Stem, stages that halve the map, global average pooling, linear head."""

    #: What the stages are called in the field, where features are tapped: `layer1` ..., `block1` ... of Wide ResNets.
    stage = "layer"

    def __init__(
        self,
        *,
        spec: InputSpec,
        stem: int,
        planes: Sequence[int],
        blocks: Sequence[int],
        block: type[PostActivationBlock] | type[PreActivationBlock],
        name: str,
    ) -> None:
        super().__init__()
        channels, _, _ = image_shape(spec, name)
        active = block is PostActivationBlock
        self.stem = nn.Sequential(_conv3(channels, stem))
        if active:
            self.stem.extend([nn.BatchNorm2d(stem), nn.ReLU()])
        inside, stages = stem, []
        for number, (wide, count) in enumerate(zip(planes, blocks, strict=True)):
            strides = [1 if number == 0 else 2] + [1] * (count - 1)
            stages.append(nn.Sequential(*(block(inside if i == 0 else wide, wide, s) for i, s in enumerate(strides))))
            inside = wide
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"{self.stage}{number}", stage)
        self.layers = len(stages)
        self.final = nn.Identity() if active else nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU())
        self.pool = _Pool()
        self.head = nn.Linear(inside, spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of images [B, C, H, W]."""
        values = self.stem(inputs)
        for number in range(1, self.layers + 1):
            values = self.get_submodule(f"{self.stage}{number}")(values)
        logits: Tensor = self.head(self.pool(self.final(values)))
        return logits


def _planes(width: float, blocks: Sequence[int]) -> list[int]:
    require_counts(blocks=blocks)
    require_factors(width=width)
    if len(blocks) > 4:
        raise NetworkSizeError(f"blocks={list(blocks)}: a ResNet has at most four stages")
    return [max(1, round(planes * width)) for planes in (64, 128, 256, 512)][: len(blocks)]


class ResNet(_Residual):
    """CIFAR ResNet of basic blocks: 3x3 stem without pooling. (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) 34.

    Args:
        spec: the data's shape and classes.
        blocks: blocks of each stage; three stages are the CIFAR family of He et al., section 4.2.
        width: factor on the channels 64, 128, 256, 512.
        stem: channels of the first convolution; `None`: those of the first stage.

    Source: He et al., CVPR 2016, arXiv:1512.03385.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: float = 1.0,
        stem: int | None = None,
    ) -> None:
        planes = _planes(width, blocks)
        require_counts(stem=stem)
        super().__init__(
            spec=spec, stem=stem or planes[0], planes=planes, blocks=blocks, block=PostActivationBlock, name="ResNet"
        )


class PreActResNet(_Residual):
    """ResNet with activations before the convolutions. Arguments as `ResNet`.

    Source: He et al., ECCV 2016, arXiv:1603.05027.
    """

    def __init__(self, *, spec: InputSpec, blocks: Sequence[int] = (2, 2, 2, 2), width: float = 1.0) -> None:
        planes = _planes(width, blocks)
        super().__init__(
            spec=spec, stem=planes[0], planes=planes, blocks=blocks, block=PreActivationBlock, name="PreActResNet"
        )


class WideResNet(_Residual):
    """Wide ResNet: three stages of pre-activation blocks with 16, 32, 64 times `widen` channels.

    Args:
        spec: the data's shape and classes.
        depth: layers, 6 n + 4.
        widen: the factor; WRN-34-10 has depth 34 and widen 10.

    Raises:
        NetworkSizeError: a depth that is not 6 n + 4, or a factor below 1.

    Source: Zagoruyko & Komodakis, BMVC 2016, arXiv:1605.07146.
    """

    stage = "block"

    def __init__(self, *, spec: InputSpec, depth: int = 34, widen: int = 10) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise NetworkSizeError(f"depth={depth}: a Wide ResNet's depth is 6 n + 4 (10, 16, 22, 28, 34 ...)")
        require_counts(widen=widen)
        super().__init__(
            spec=spec,
            stem=16,
            planes=[16 * widen, 32 * widen, 64 * widen],
            blocks=[(depth - 4) // 6] * 3,
            block=PreActivationBlock,
            name="WideResNet",
        )
