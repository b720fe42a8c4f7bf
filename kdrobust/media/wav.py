"""Recordings of one length and loudness out of wav files of any."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdrobust.errors import DataError

#: No recording has fewer or more samples a second; a damaged header may say anything.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
Signal = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Format:
    """What every recording is brought to.

    Attributes:
        sample_rate: samples a second; files of another rate are resampled (polyphase, anti-aliased).
        samples: length; longer recordings keep their middle, shorter ones stand between zeros.
        peak: largest absolute value after scaling, in (0, 1]; None: not scaled, but cut off beyond [-1, 1].
    """

    sample_rate: int
    samples: int
    peak: float | None

    def apply(self, signal: Signal, rate: int) -> npt.NDArray[np.float32]:
        """Resample, cut or pad, and scale.

        Args:
            signal: [T] finite.
            rate: its samples a second.

        Returns:
            [samples], within [-peak, peak], or [-1, 1] where it is None.

        Raises:
            ValueError: silence, which no factor brings to the peak.
        """
        if rate != self.sample_rate:
            from scipy.signal import resample_poly

            common = math.gcd(rate, self.sample_rate)
            signal = resample_poly(signal, self.sample_rate // common, rate // common)
        excess = len(signal) - self.samples
        if excess > 0:
            signal = signal[excess // 2 : excess // 2 + self.samples]
        else:
            signal = np.pad(signal, (-excess // 2, -excess - -excess // 2))
        if self.peak is None:
            return signal.astype(np.float32).clip(-1.0, 1.0)
        loudest = float(np.abs(signal).max())
        if not loudest:
            raise ValueError("it is silent")
        # rounding to float32 must not lead out of the range
        return (signal * (self.peak / loudest)).astype(np.float32).clip(-self.peak, self.peak)


def read_wav(path: Path) -> tuple[Signal, int]:
    """A wav file's signal, the mean of its channels.

    Args:
        path: PCM of 8 to 32 bits or floating point, of any rate, mono or several channels.

    Returns:
        [T] float64, full scale is 1; and samples a second.

    Raises:
        DataError: no wav file, one that was cut short, without samples, or with NaN.
    """
    from scipy.io import wavfile

    try:
        if _claims_more(path):
            raise DataError(f"{path}: was cut short; replace or remove it")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rate, values = wavfile.read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, TypeError, ArithmeticError, UnboundLocalError, struct.error) as error:
        raise DataError(f"{path}: no readable wav file ({_reason(error)}); replace or remove it") from None
    if any("prematurely" in str(each.message) for each in told):
        raise DataError(f"{path}: was cut short; replace or remove it")
    if not values.size:
        raise DataError(f"{path}: holds no samples; replace or remove it")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(f"{path}: says it has {rate} samples a second; replace or remove it")
    signal = _full_scale(values)
    if not np.isfinite(signal).all():
        raise DataError(f"{path}: holds NaN or infinite samples; replace or remove it")
    return signal if signal.ndim == 1 else signal.mean(axis=1), int(rate)


def _claims_more(path: Path) -> bool:
    """Whether a chunk says it is longer than the file: memory would be asked for that much."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        # another order of bytes, or larger files: SciPy's reader knows these, and says what is wrong
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        place = 12
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[4:], "little")
            place += 8 + length
            if place > size:
                return header[:4] == b"data"
            # chunks begin at even places
            place += length % 2
            file.seek(place)
    return False


def _full_scale(values: npt.NDArray[Any]) -> Signal:
    if values.dtype == np.uint8:
        return (values.astype(np.float64) - 128.0) / 128.0
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float64) / float(2 ** (8 * values.dtype.itemsize - 1))
    return values.astype(np.float64)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


@dataclass(kw_only=True)
class WavFiles:
    """Recordings that are decoded when asked for; see `kdrobust.data.arrays.FilePixels`.

    Attributes:
        paths: one file a sample.
        format: what they are brought to.
        shape: (N, 1, samples).
        dtype: float32.
    """

    paths: Sequence[Path]
    format: Format
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def __post_init__(self) -> None:
        self.shape = (len(self.paths), 1, self.format.samples)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        signals = np.empty((len(places), *self.shape[1:]), dtype=np.float32)
        for row, place in enumerate(places):
            path = self.paths[int(place)]
            signal, rate = read_wav(path)
            try:
                signals[row, 0] = self.format.apply(signal, rate)
            except ValueError as error:
                raise DataError(f"{path}: {error}; replace or remove it") from None
        return signals

    def digest(self) -> str:
        """Sha256 over names and bytes of the files, and the format they are brought to."""
        state = hashlib.sha256(repr(self.format).encode())
        for path in self.paths:
            content = path.read_bytes()
            state.update(os.fsencode(f"{path.parent.name}/{path.name}") + f"\0{len(content)}\0".encode())
            state.update(content)
        return state.hexdigest()
