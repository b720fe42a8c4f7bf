"""The front end of models of sound: from the waveform to a log-mel spectrogram, differentiable all the way."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdrobust.errors import DataError
from kdrobust.spec import InputSpec

#: Slaney's mel scale: linear below 1 kHz, 200/3 Hz a mel, and logarithmic above, 27 mels a factor of 6.4.
_HZ_A_MEL, _CORNER_HZ = 200.0 / 3.0, 1000.0
_CORNER_MEL, _LOG_STEP = _CORNER_HZ / _HZ_A_MEL, math.log(6.4) / 27.0


def hz_to_mel(hertz: Tensor) -> Tensor:
    """Slaney's mel scale, elementwise."""
    above = _CORNER_MEL + (hertz.clamp(min=_CORNER_HZ) / _CORNER_HZ).log() / _LOG_STEP
    return torch.where(hertz < _CORNER_HZ, hertz / _HZ_A_MEL, above)


def mel_to_hz(mels: Tensor) -> Tensor:
    """The inverse of `hz_to_mel`, elementwise."""
    above = _CORNER_HZ * (_LOG_STEP * (mels - _CORNER_MEL)).exp()
    return torch.where(mels < _CORNER_MEL, _HZ_A_MEL * mels, above)


def mel_filters(*, sample_rate: int, n_fft: int, mels: int, low: float = 0.0, high: float | None = None) -> Tensor:
    """Triangular filters, equally spaced on Slaney's mel scale, each of area 1 (2 / its width in Hz).

    Args:
        sample_rate: samples a second.
        n_fft: length of the Fourier transform.
        mels: number of filters M.
        low: Hz at which the first one begins.
        high: Hz at which the last one ends; None: half the sample rate.

    Returns:
        [M, n_fft / 2 + 1] float64.

    Source: Slaney, Auditory Toolbox, Interval Research Corporation, technical report 1998-010.
    """
    ends = hz_to_mel(torch.tensor([low, sample_rate / 2 if high is None else high], dtype=torch.float64))
    edges = mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), mels + 2, dtype=torch.float64))
    bins = torch.linspace(0.0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (right - left)


class LogMel(nn.Module):
    r"""$\log(\mathrm{mel} \cdot |\mathrm{STFT}(x)|^2 + \mathrm{floor})$, [B, 1, samples] to [B, 1, mels, frames].

    The power is re² + im², never a square root squared: its gradient is finite on digital silence, so that an attack
    can climb on padded recordings. The floor decides how much a quiet perturbation of silence is seen: white noise of
    amplitude ε gives a power of about ε² · n_fft / 100 in a band.

    Args:
        spec: the data's shape and sample rate.
        window: length of the Hann window in seconds; the transform has the next power of two samples.
        hop: seconds between frames.
        mels: number of bands.
        floor: added to the power before the logarithm, > 0.

    Raises:
        DataError: the data are no mono sound.
        ValueError: a window, a hop or a floor that is not positive, no bands, or clips shorter than half a window.
    """

    filters: Tensor
    hann: Tensor

    def __init__(
        self, *, spec: InputSpec, window: float = 0.032, hop: float = 0.016, mels: int = 40, floor: float = 1e-4
    ) -> None:
        super().__init__()
        if spec.sample_rate is None or len(spec.shape) != 2 or spec.shape[0] != 1:
            raise DataError(
                f"LogMel: needs waveforms of one channel, the data have shape {spec.shape}; choose data=fsdd"
            )
        for name, value in (("window", window), ("hop", hop), ("mels", mels), ("floor", floor)):
            if value <= 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        length = max(2, round(window * spec.sample_rate))
        self.hop = max(1, round(hop * spec.sample_rate))
        self.n_fft = 2 ** math.ceil(math.log2(length))
        self.floor = floor
        if spec.shape[-1] < self.n_fft // 2:
            raise ValueError(f"window: {window} s is too long for clips of {spec.seconds:g} s")
        self.frames = 1 + spec.shape[-1] // self.hop
        filters = mel_filters(sample_rate=spec.sample_rate, n_fft=self.n_fft, mels=mels)
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("hann", torch.hann_window(length), persistent=False)

    def power(self, inputs: Tensor) -> Tensor:
        """Mel power, [B, mels, frames], of waveforms [B, 1, samples]."""
        spectrum = torch.stft(
            inputs.squeeze(1),
            n_fft=self.n_fft,
            hop_length=self.hop,
            win_length=len(self.hann),
            window=self.hann,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        squared = spectrum.real.square() + spectrum.imag.square()
        banded: Tensor = self.filters @ squared
        return banded

    def forward(self, inputs: Tensor) -> Tensor:
        """Log-mel spectrogram, [B, 1, mels, frames]."""
        return (self.power(inputs) + self.floor).log().unsqueeze(1)
