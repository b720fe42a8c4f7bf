"""Wav files of every kind, brought to one rate, length and loudness; and files that are none."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from kdrobust.errors import DataError
from kdrobust.media.wav import Format, WavFiles, read_wav

PLAIN = Format(sample_rate=8000, samples=800, peak=0.9)


def tone(hertz, rate, seconds=0.2, level=0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [(np.int16, 32768, 0), (np.int32, 2**31, 0), (np.uint8, 128, 128), (np.float32, 1, 0), (np.float64, 1, 0)],
)
def test_every_sample_type_is_the_same_signal(tmp_path, dtype, scale, offset):
    signal = tone(440, 8000)
    wavfile.write(tmp_path / "a.wav", 8000, (signal * scale + offset).astype(dtype))
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000
    assert found.dtype == np.float64
    assert np.abs(found - signal).max() <= 1.01 / min(scale, 2**15)


def test_channels_are_averaged(tmp_path):
    left, right = tone(300, 44100), tone(700, 44100)
    wavfile.write(tmp_path / "a.wav", 44100, np.stack([left, right], axis=1).astype(np.float32))
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 44100
    assert np.allclose(found, (left + right) / 2, atol=1e-6)


def test_another_rate_is_resampled_without_aliases(tmp_path):
    wanted = Format(sample_rate=8000, samples=8000, peak=0.9)
    low, high = tone(1000, 44100, 1.0), tone(10000, 44100, 1.0)
    heard = wanted.apply(low, 44100)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(8000)))
    assert spectrum.argmax() == 1000
    assert np.allclose(heard[1000:-1000], 0.9 / np.abs(heard).max() * tone(1000, 8000, 1.0, 0.9)[1000:-1000], atol=0.02)
    # what lies above the new Nyquist frequency may not come back as another tone
    mixed = np.abs(np.fft.rfft(wanted.apply(low + high, 44100) * np.hanning(8000)))
    assert mixed[1900:2100].max() < 0.01 * mixed[1000]


def test_short_signals_stand_between_zeros_and_long_ones_keep_their_middle():
    short = PLAIN.apply(np.full(301, 0.1), 8000)
    assert short.dtype == np.float32
    assert np.flatnonzero(short).tolist() == list(range(249, 550))
    long = PLAIN.apply(np.arange(1.0, 1802.0), 8000)
    assert len(long) == 800
    assert long[0] / long[-1] == pytest.approx(501 / 1300)
    assert np.abs(PLAIN.apply(tone(100, 8000, 0.1), 8000)).max() == np.float32(0.9)
    with pytest.raises(ValueError, match="silent"):
        PLAIN.apply(np.zeros(900), 8000)


def written(path):
    wavfile.write(path, 8000, (tone(200, 8000) * 30000).astype(np.int16))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: b"", "no readable wav file"),
        (lambda content: b"just some text, renamed\n" * 9, "no readable wav file"),
        (lambda content: content[:20], "no readable wav file"),
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: content[:4] + b"\x24\0\0\0" + content[8:40] + b"\0\0\0\0", "holds no samples"),
        (lambda content: content[:20] + b"\x07\0" + content[22:], "no readable wav file"),
        (lambda content: content[:24] + b"\0\0\0\x10" + b"\0\0\0\x20" + content[32:], "samples a second"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path, spoil, words):
    path = tmp_path / "a.wav"
    path.write_bytes(spoil(written(path)))
    with pytest.raises(DataError, match=words) as caught:
        read_wav(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "replace or remove it" in str(caught.value)


def test_nan_and_a_missing_file(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.array([0.1, np.nan], dtype=np.float32))
    with pytest.raises(DataError, match="NaN"):
        read_wav(tmp_path / "a.wav")
    with pytest.raises(DataError, match="no such file"):
        read_wav(tmp_path / "b.wav")


def test_files_are_decoded_when_asked_for(tmp_path):
    for number in range(3):
        wavfile.write(tmp_path / f"{number}.wav", 8000, tone(200 * (number + 1), 8000).astype(np.float32))
    files = WavFiles(paths=sorted(tmp_path.glob("*.wav")), format=PLAIN)
    assert (files.shape, files.dtype, len(files)) == ((3, 1, 800), np.float32, 3)
    both = files[np.array([2, 0])]
    assert np.array_equal(both[1], files[np.array([0])][0])
    before = files.digest()
    assert WavFiles(paths=files.paths, format=PLAIN).digest() == before
    assert WavFiles(paths=files.paths, format=Format(sample_rate=8000, samples=800, peak=0.5)).digest() != before
    wavfile.write(tmp_path / "1.wav", 8000, np.zeros(90, dtype=np.int16))
    assert files.digest() != before
    with pytest.raises(DataError, match=r"1.wav: it is silent; replace or remove it"):
        files[np.array([1])]


def test_a_chunk_that_claims_more_than_the_file_holds(tmp_path, monkeypatch):
    """A header of four gigabytes: nothing is read for it."""
    path = tmp_path / "a.wav"
    content = bytearray(written(path))
    place = content.index(b"data") + 4
    content[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    monkeypatch.setattr(wavfile, "read", None)
    with pytest.raises(DataError, match="was cut short"):
        read_wav(path)


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001])
def test_a_rate_that_no_recording_has(tmp_path, rate):
    """A second of rate 1 is half a day: brought to 16 kHz it took 12 GiB."""
    path = tmp_path / "a.wav"
    content = bytearray(written(path))
    content[24:28] = rate.to_bytes(4, "little")
    width = int.from_bytes(content[32:34], "little")
    content[28:32] = (rate * width).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"says it has {rate} samples a second"):
        read_wav(path)


def test_a_file_s_name_that_is_no_utf8(tmp_path):
    content = written(tmp_path / "a.wav")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    with open(odd, "wb") as file:
        file.write(content)
    assert len(WavFiles(paths=[Path(odd)], format=PLAIN).digest()) == 64
