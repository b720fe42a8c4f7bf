"""Adversarial recordings: wav files to listen to, and their spectrograms."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrobust.report.images import as_array, short_name
from kdrobust.report.style import figure
from kdrobust.tracking.atomic import write_bytes

#: Seconds of a window and between windows; decibels below the loudest point that are drawn black.
_WINDOW, _HOP, _RANGE = 0.032, 0.008, 80.0
#: Shades, 5 dB apart: noise in all the colours there are would make a file of a megabyte.
_SHADES = 16
_RIGHT, _WRONG = "#00694D", "#B03A00"


def write_wav(path: str | Path, signal: ArrayLike, sample_rate: int) -> None:
    """Write a signal as 16-bit PCM, which every player knows; rounding moves no sample by more than 1/65,534.

    Args:
        path: of the file; its folder is made.
        signal: [T] in [-1, 1], an array or a tensor.
        sample_rate: samples a second.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate, np.round(as_array(signal) * 32767.0).astype(np.int16))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def decibels(signal: NDArray[Any], sample_rate: int) -> NDArray[np.float64]:
    """Short-time power in decibels of full scale, [frequencies, frames], with a Hann window of 32 ms."""
    length, hop = max(2, round(_WINDOW * sample_rate)), max(1, round(_HOP * sample_rate))
    padded = np.pad(np.asarray(signal, dtype=np.float64), length // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    window = np.hanning(length)
    spectrum = np.fft.rfft(frames * window, axis=1).T
    power: NDArray[np.float64] = np.abs(spectrum) ** 2 / window.sum() ** 2
    return 10.0 * np.log10(power + 1e-12)


def spectrograms(
    clean: ArrayLike,
    adversarial: ArrayLike,
    labels: ArrayLike,
    answers_clean: ArrayLike,
    answers_adversarial: ArrayLike,
    path: str | Path,
    *,
    sample_rate: int,
    class_names: Sequence[str] = (),
    threat: str = "",
    most: int = 4,
) -> None:
    """Draw a row a recording: its spectrogram, that of the perturbation alone, and that of the sum, on one scale.

    Args:
        clean: [N, 1, T] in [-1, 1], arrays or tensors.
        adversarial: x', the same shape.
        labels: [N] integers, the true classes.
        answers_clean: [N] integers, the classes predicted for `clean`.
        answers_adversarial: [N] integers, for `adversarial`.
        path: of the PNG.
        sample_rate: samples a second.
        class_names: names by class; numbers where it is too short.
        threat: in words, e.g. `ℓ∞, ε = 0.002`.
        most: recordings drawn, the first ones.

    Raises:
        ValueError: no recordings, other shapes, or shapes that differ.
        RunFolderError: the PNG cannot be written.
    """
    from matplotlib import colormaps

    before, after = as_array(clean), as_array(adversarial)
    if before.ndim != 3 or before.shape[1] != 1 or not len(before) or after.shape != before.shape:
        raise ValueError(f"expected two times recordings [N, 1, T], got shapes {before.shape} and {after.shape}")
    truth, first, second = (as_array(values) for values in (labels, answers_clean, answers_adversarial))
    count = min(most, len(before))
    shades = colormaps["cividis"].resampled(_SHADES)
    with figure(path, width=8.4, height=1.55 * count + 0.8) as drawn:
        axes = drawn.subplots(count, 3, squeeze=False, sharex=True, sharey=True)
        image = None
        for row in range(count):
            signals = (before[row, 0], after[row, 0] - before[row, 0], after[row, 0])
            top = decibels(before[row, 0], sample_rate).max()
            for axis, signal in zip(axes[row], signals, strict=True):
                image = axis.imshow(
                    decibels(signal, sample_rate) - top,
                    origin="lower",
                    aspect="auto",
                    cmap=shades,
                    interpolation="nearest",
                    vmin=-_RANGE,
                    vmax=0.0,
                    extent=(0.0, len(signal) / sample_rate, 0.0, sample_rate / 2000.0),
                )
            _caption(axes[row][0], int(first[row]), int(truth[row]), class_names)
            axes[row][1].set_title(f"perturbation, {_noise(*signals[:2])}", fontsize=8.5, loc="center", pad=3)
            axes[row][1].title.set_fontweight("normal")
            _caption(axes[row][2], int(second[row]), int(truth[row]), class_names)
            axes[row][0].set_ylabel("kHz")
        for axis in axes[-1]:
            axis.set_xlabel("seconds")
        drawn.colorbar(image, ax=axes, label="dB below the loudest", shrink=0.8, pad=0.01)
        title = "Adversarial recordings" + (f" ({threat})" if threat else "")
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _noise(signal: NDArray[Any], noise: NDArray[Any]) -> str:
    loudness = float(np.linalg.norm(noise))
    if not loudness:
        return "none"
    return f"SNR {20.0 * np.log10(float(np.linalg.norm(signal)) / loudness):.1f} dB"


def _caption(axis: Any, predicted: int, truth: int, class_names: Sequence[str]) -> None:
    right = predicted == truth
    told = f"{'✓' if right else '✗'} heard {short_name(class_names, predicted)}"
    axis.set_title(
        told + ("" if right else f", said {short_name(class_names, truth)}"),
        fontsize=8.5,
        loc="center",
        color=_RIGHT if right else _WRONG,
        pad=3,
    )
