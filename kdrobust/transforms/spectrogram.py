"""From sound to a picture of it."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn

from kdrobust.models import LogMel
from kdrobust.spec import InputSpec


class Spectrogram(nn.Module):
    r"""A recording's log-mel spectrogram as a grey picture in [0, 1], low bands at the bottom.

    $v = \mathrm{clip}\big((\log(p + f) - \log f) / (\log c - \log f), 0, 1\big)$ with p a band's power, f the floor
    and c the ceiling. The modality of a model that looks where another one listens. Differentiable.

    Args:
        spec: mono sound.
        window: see `kdrobust.models.LogMel`.
        hop: see `kdrobust.models.LogMel`.
        mels: the picture's height.
        floor: the power shown as 0, > 0.
        ceiling: the power shown as 1, > floor.

    Attributes:
        spec: of what comes out, [1, mels, frames] in [0, 1].

    Raises:
        DataError: the data are no mono sound.
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        *,
        spec: InputSpec,
        window: float = 0.032,
        hop: float = 0.016,
        mels: int = 40,
        floor: float = 1e-4,
        ceiling: float = 10.0,
    ) -> None:
        super().__init__()
        if ceiling <= floor:
            raise ValueError(f"ceiling: expected more than the floor, {floor:g}, got {ceiling:g}")
        self.front_end = LogMel(spec=spec, window=window, hop=hop, mels=mels, floor=floor)
        self.lowest, self.range = math.log(floor), math.log(ceiling) - math.log(floor)
        shape = (1, mels, self.front_end.frames)
        self.spec = replace(spec, shape=shape, bounds=(0.0, 1.0), sample_rate=None, peak=None, mean=(), std=())

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """[B, 1, mels, frames] of waveforms [B, 1, samples] in [-1, 1]; `keys` are not looked at."""
        shown: Tensor = (self.front_end(inputs) - self.lowest) / self.range
        return shown.clamp(0.0, 1.0).flip(2)
