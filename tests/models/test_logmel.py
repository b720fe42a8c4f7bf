"""The front end against librosa's numbers, and its gradient where a recording is silent."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdrobust.errors import DataError
from kdrobust.models import LogMel, mel_filters
from kdrobust.models.logmel import hz_to_mel, mel_to_hz
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8000), classes=10, bounds=(-1.0, 1.0), sample_rate=8000)


@pytest.fixture(scope="module")
def oracle():
    """What librosa 0.11.0 (numpy 2.4.6) returned: see vectors/logmel.md."""
    with np.load(Path(__file__).parent / "vectors" / "logmel.npz") as found:
        return dict(found)


@pytest.mark.parametrize(("rate", "n_fft", "mels"), [(8000, 256, 40), (16000, 512, 40), (22050, 1024, 64)])
def test_the_filters_are_librosas(oracle, rate, n_fft, mels):
    ours = mel_filters(sample_rate=rate, n_fft=n_fft, mels=mels)
    theirs = torch.from_numpy(oracle[f"filters_{rate}_{n_fft}_{mels}"]).double()
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-8


def test_the_power_is_librosas(oracle):
    front = LogMel(spec=SPEC)
    power = front.power(torch.from_numpy(oracle["signal"]).view(1, 1, -1))[0]
    theirs = torch.from_numpy(oracle["power"])
    assert power.shape == theirs.shape == (40, front.frames)
    # float32 against float32: where a band is nearly empty, what is small beside the loudest band is rounding
    assert float((power - theirs).abs().max() / theirs.max()) < 1e-6
    loud = theirs > 1e-4
    assert float(((power - theirs)[loud] / theirs[loud]).abs().max()) < 1e-3
    assert torch.equal(front(torch.from_numpy(oracle["signal"]).view(1, 1, -1))[0, 0], (power + 1e-4).log())


def test_the_mel_scale_and_its_inverse():
    hertz = torch.tensor([0.0, 200.0, 1000.0, 6400.0], dtype=torch.float64)
    assert hz_to_mel(hertz).tolist() == pytest.approx([0.0, 3.0, 15.0, 42.0])
    assert torch.allclose(mel_to_hz(hz_to_mel(hertz)), hertz)


def test_every_filter_has_area_one_and_bounds():
    filters = mel_filters(sample_rate=16000, n_fft=8192, mels=20, low=300.0, high=4000.0)
    assert torch.allclose(filters.sum(dim=1) * 16000 / 8192, torch.ones(20, dtype=torch.float64), atol=2e-3)
    reached = torch.nonzero(filters.sum(dim=0)).flatten() * 16000 / 8192
    assert 300.0 <= float(reached.min()) <= 303.0
    assert 3995.0 <= float(reached.max()) <= 4000.0


@pytest.mark.parametrize("kind", ["silence", "padded", "click"])
def test_the_gradient_is_finite_and_there_on_zeros(kind):
    signal = torch.zeros(2, 1, 8000)
    if kind == "padded":
        signal[:, :, 3000:5000] = 0.3 * torch.randn(2, 1, 2000, generator=torch.Generator().manual_seed(0))
    if kind == "click":
        signal[:, :, 4000] = 0.9
    signal.requires_grad_(True)
    weight = torch.randn(40, 63, generator=torch.Generator().manual_seed(1))
    (LogMel(spec=SPEC)(signal) * weight).sum().backward()
    assert bool(signal.grad.isfinite().all())
    # all-zero frames are a stationary point of the power, and only these
    moved = signal.grad.abs().sum(dim=(1, 2)) > 0
    assert moved.tolist() == [kind != "silence"] * 2


def test_the_gradient_is_the_slope():
    signal = (0.1 * torch.randn(1, 1, 800, generator=torch.Generator().manual_seed(2))).double().requires_grad_(True)
    spec = InputSpec(shape=(1, 800), classes=2, bounds=(-1.0, 1.0), sample_rate=8000)
    front = LogMel(spec=spec, mels=8).double()
    assert torch.autograd.gradcheck(lambda x: front(x).mean(dim=3), (signal,), fast_mode=True)


def test_the_floor_hides_what_is_quieter():
    quiet = 0.002 * torch.sign(torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(3)))
    moved = [float(LogMel(spec=SPEC, floor=floor)(quiet).mean() - np.log(floor)) for floor in (1e-6, 1e-4, 1e-2)]
    assert moved[0] > 1.0
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.01


def test_window_and_hop_follow_the_rate():
    fast = InputSpec(shape=(1, 16000), classes=10, bounds=(-1.0, 1.0), sample_rate=16000)
    front = LogMel(spec=fast, window=0.025, hop=0.01)
    assert (front.n_fft, len(front.hann), front.hop) == (512, 400, 160)
    assert front(torch.zeros(2, 1, 16000)).shape == (2, 1, 40, front.frames) == (2, 1, 40, 101)


@pytest.mark.parametrize("name", ["window", "hop", "mels", "floor"])
def test_settings_that_cannot_be(name):
    with pytest.raises(ValueError, match=f"{name}: expected more than 0"):
        LogMel(spec=SPEC, **{name: 0})


def test_other_data_are_refused():
    for spec in (InputSpec(shape=(1, 28, 28), classes=10), InputSpec(shape=(1, 8000), classes=10)):
        with pytest.raises(DataError, match="needs waveforms"):
            LogMel(spec=spec)
    with pytest.raises(DataError, match="one channel"):
        LogMel(spec=InputSpec(shape=(2, 8000), classes=10, sample_rate=8000))
    with pytest.raises(ValueError, match="too long"):
        LogMel(spec=InputSpec(shape=(1, 100), classes=10, sample_rate=8000))
