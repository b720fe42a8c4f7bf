"""Wav files that play what was computed, and spectrograms that show it."""

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from kdrobust.report import spectrograms, threat_text, write_wav
from kdrobust.report.sound import decibels


def test_a_wav_file_is_the_signal_to_16_bits(tmp_path):
    signal = torch.linspace(-1, 1, 999)
    write_wav(tmp_path / "deep" / "a.wav", signal, 8000)
    rate, values = wavfile.read(tmp_path / "deep" / "a.wav")
    assert rate == 8000
    assert values.dtype == np.int16
    assert np.abs(values / 32767 - signal.numpy()).max() <= 0.5 / 32767 + 1e-7


def test_a_full_scale_tone_is_6_decibels_below_a_constant():
    time = np.arange(8000) / 8000
    tone = decibels(np.sin(2 * np.pi * 1000 * time), 8000)
    assert tone.max() == pytest.approx(-6.02, abs=0.1)
    frequency = np.linspace(0, 4000, tone.shape[0])[tone[:, tone.shape[1] // 2].argmax()]
    assert frequency == pytest.approx(1000, abs=20)
    assert decibels(np.zeros(800), 8000).max() == -120.0


def test_spectrograms_are_drawn_also_of_what_did_not_change(tmp_path):
    draw = np.random.default_rng(0)
    clean = draw.uniform(-0.5, 0.5, (3, 1, 2000))
    moved = clean.copy()
    moved[1] += 0.01
    arguments = (np.array([0, 1, 5]), np.array([0, 1, 0]), np.array([0, 0, 0]))
    spectrograms(
        clean, torch.from_numpy(moved), *arguments, tmp_path / "a.png", sample_rate=8000, class_names=("no", "yes")
    )
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    spectrograms(clean, clean, *arguments, tmp_path / "b.png", sample_rate=8000, class_names=("no", "yes"))
    assert content != (tmp_path / "b.png").read_bytes()
    with pytest.raises(ValueError, match="expected two times recordings"):
        spectrograms(clean[:, 0], clean[:, 0], *arguments, tmp_path / "c.png", sample_rate=8000)


def test_a_relative_threat_is_told_in_decibels():
    assert threat_text({"norm": "l2", "eps": 0.0316227766, "relative": True}) == "SNR ≥ 30 dB"
    assert threat_text({"norm": "l2", "eps": 0.5}) == "ℓ2, ε = 0.5"
