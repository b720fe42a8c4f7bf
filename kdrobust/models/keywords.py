"""Networks for spoken words: a wide teacher and a small keyword spotter over the same log-mel front end."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdrobust.models.logmel import LogMel
from kdrobust.models.sizes import require_counts
from kdrobust.spec import InputSpec


def _block(
    inputs: int, outputs: int, *, stride: int | tuple[int, int] = 1, groups: int = 1, size: int = 3
) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class SpectrogramCNN(nn.Module):
    """3x3 convolutions with batch norm, each halving the spectrogram, and a mean over what is left.

    Args:
        spec: the data's shape, classes and sample rate.
        channels: output channels of each convolution.
        window: see `LogMel`.
        hop: see `LogMel`.
        mels: see `LogMel`.
        floor: see `LogMel`.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        channels: Sequence[int] = (32, 64, 128, 256, 256),
        window: float = 0.032,
        hop: float = 0.016,
        mels: int = 40,
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        require_counts(channels=channels, mels=mels)
        self.front_end = LogMel(spec=spec, window=window, hop=hop, mels=mels, floor=floor)
        self.scale = nn.BatchNorm2d(1)
        pairs = zip([1, *channels[:-1]], channels, strict=True)
        self.features = nn.Sequential(*(_block(before, after, stride=2) for before, after in pairs))
        self.head = nn.Linear(channels[-1], spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of waveforms [B, 1, samples]."""
        found = self.features(self.scale(self.front_end(inputs)))
        logits: Tensor = self.head(found.mean(dim=(2, 3)))
        return logits


class DSCNN(nn.Module):
    """Depthwise-separable keyword spotter: one convolution, then blocks of a 3x3 depthwise and a 1x1 convolution.

    Args:
        spec: the data's shape, classes and sample rate.
        channels: of every layer.
        blocks: depthwise-separable blocks.
        stride: of the first convolution, over mel bands and over frames.
        window: see `LogMel`.
        hop: see `LogMel`.
        mels: see `LogMel`.
        floor: see `LogMel`.

    Source: Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, arXiv:1711.07128, section 3.5.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        channels: int = 64,
        blocks: int = 4,
        stride: Sequence[int] = (4, 4),
        window: float = 0.032,
        hop: float = 0.016,
        mels: int = 40,
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        require_counts(channels=channels, blocks=blocks, stride=stride, mels=mels)
        self.front_end = LogMel(spec=spec, window=window, hop=hop, mels=mels, floor=floor)
        self.scale = nn.BatchNorm2d(1)
        layers: list[nn.Module] = [_block(1, channels, stride=(stride[0], stride[1]), size=5)]
        for _ in range(blocks):
            layers += [_block(channels, channels, groups=channels), _block(channels, channels, size=1)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of waveforms [B, 1, samples]."""
        found = self.features(self.scale(self.front_end(inputs)))
        logits: Tensor = self.head(found.mean(dim=(2, 3)))
        return logits
