"""A network that listens to the waveform itself: no spectrogram stands between it and the signal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from kdrobust.errors import DataError
from kdrobust.models.sizes import require_counts
from kdrobust.spec import InputSpec


class WaveformCNN(nn.Module):
    """Strided one-dimensional convolutions with batch norm over the samples, and a mean over what is left.

    The first layer's kernel is long enough to learn a filter bank; each further one sees eight steps of the last.

    Args:
        spec: the data's shape and classes.
        channels: output channels of each convolution.
        kernel: length of the first one's kernel in samples.
        strides: of the first convolution, and of each further one.

    Raises:
        DataError: the data are no signals (channels, samples), or too short for so many strides.

    Source: after Dai et al., "Very Deep Convolutional Neural Networks for Raw Waveforms", ICASSP 2017,
        arXiv:1610.00087.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        channels: Sequence[int] = (16, 32, 32, 64),
        kernel: int = 64,
        strides: Sequence[int] = (8, 4),
    ) -> None:
        super().__init__()
        if len(spec.shape) != 2:
            raise DataError(f"WaveformCNN: needs signals (channels, samples), the data have shape {spec.shape}")
        require_counts(channels=channels, kernel=kernel, strides=strides)
        least = strides[0] * strides[1] ** (len(channels) - 1)
        if spec.shape[1] < least:
            raise DataError(f"WaveformCNN: so many strides need {least} samples, the data have {spec.shape[1]}")
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(itertools.pairwise([spec.shape[0], *channels])):
            size, stride = (8, strides[1]) if number else (kernel, strides[0])
            layers += [nn.Conv1d(before, after, size, stride, padding=size // 2, bias=False)]
            layers += [nn.BatchNorm1d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], spec.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of signals [B, C, samples]."""
        logits: Tensor = self.head(self.features(inputs).mean(dim=2))
        return logits
