"""Transforms by themselves: what comes out, in which range, and that attacks can climb through them."""

import pytest
import torch

from kdrobust.config import compose, instantiate
from kdrobust.data.corruptions import corrupt
from kdrobust.data.transformed import build_transform
from kdrobust.errors import DataError, UsageError
from kdrobust.models import LogMel
from kdrobust.spec import InputSpec
from kdrobust.transforms import Corrupt, Resize, Spectrogram

IMAGES = InputSpec(shape=(1, 12, 16), classes=3, mean=(0.5,), std=(0.2,))
SOUND = InputSpec(shape=(1, 800), classes=3, bounds=(-1.0, 1.0), sample_rate=8000)


def test_resize_averages_and_says_its_shape():
    resize = Resize(spec=IMAGES, size=[3, 4])
    assert resize.spec.shape == (1, 3, 4)
    assert resize.spec.mean == ()
    constant = torch.full((2, 1, 12, 16), 0.3)
    torch.testing.assert_close(resize(constant), torch.full((2, 1, 3, 4), 0.3))
    # a lone bright pixel is spread, not lost: four by four pixels become one
    spot = torch.zeros(1, 1, 12, 16)
    spot[0, 0, 5, 5] = 1.0
    assert 0 < float(resize(spot).max()) < 1
    assert float(resize(spot).sum()) == pytest.approx(1 / 16, rel=0.05)
    assert Resize(spec=IMAGES, size=24)(torch.rand(2, 1, 12, 16)).shape == (2, 1, 24, 24)


def test_spectrogram_is_the_log_mel_scaled_and_upright():
    picture = Spectrogram(spec=SOUND, mels=16, floor=1e-3, ceiling=10.0)
    time = torch.arange(800) / 8000
    tone = 0.5 * torch.sin(2 * torch.pi * 300 * time).view(1, 1, -1)
    shown = picture(tone)
    assert tuple(shown.shape[1:]) == picture.spec.shape
    assert (picture.spec.bounds, picture.spec.sample_rate) == ((0.0, 1.0), None)
    power = LogMel(spec=SOUND, mels=16, floor=1e-3).power(tone)
    expected = ((power + 1e-3).log10() + 3) / 4
    torch.testing.assert_close(shown, expected.clamp(0, 1).flip(1).unsqueeze(1), atol=1e-5, rtol=1e-4)
    assert int(shown[0, 0].mean(dim=1).argmax()) > 8  # a low tone lies in the lower half
    assert float(picture(torch.zeros(1, 1, 800)).abs().max()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("transform", "inputs"),
    [
        (Resize(spec=IMAGES, size=5), torch.rand(2, 1, 12, 16)),
        (Spectrogram(spec=SOUND, mels=8), torch.rand(2, 1, 800) - 0.5),
    ],
)
def test_gradients_reach_the_inputs(transform, inputs):
    inputs.requires_grad_(True)
    shown = transform(inputs)
    low, high = transform.spec.bounds
    assert ((shown >= low) & (shown <= high)).all()
    (gradient,) = torch.autograd.grad(shown.sum(), inputs)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_a_corruption_is_the_evaluation_s_and_follows_the_keys():
    inputs, keys = torch.rand(4, 1, 12, 16), torch.tensor([7, 1, 9, 7])
    noise = Corrupt(spec=IMAGES, name="gaussian_noise", severity=2, seed=5)
    shown = noise(inputs, keys)
    torch.testing.assert_close(shown, corrupt(inputs, "gaussian_noise", 2, keys=keys, seed=5))
    torch.testing.assert_close(noise(inputs.flip(0), keys.flip(0)).flip(0), shown)
    assert noise.draws
    assert not Corrupt(spec=IMAGES, name="contrast").draws
    assert Corrupt(spec=SOUND, name="white_noise").spec == SOUND


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Resize(spec=SOUND, size=8), DataError, "Resize: is for images"),
        (lambda: Resize(spec=IMAGES, size=0), ValueError, "size: expected a side"),
        (lambda: Resize(spec=IMAGES, size=[1, 2, 3]), ValueError, "size: expected a side"),
        (lambda: Corrupt(spec=IMAGES, name="white_noise"), UsageError, "name: no corruption 'white_noise'"),
        (lambda: Corrupt(spec=IMAGES, name="fog", severity=6), UsageError, "severity: 6 is not one of"),
        (lambda: Spectrogram(spec=IMAGES), DataError, "needs waveforms"),
        (lambda: Spectrogram(spec=SOUND, floor=2.0, ceiling=1.0), ValueError, "ceiling: expected more"),
    ],
)
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_refusal_names_the_key():
    factory = instantiate(
        compose("distill", ["transform@data.transform=resize", "data.transform.size=0"]).data
    ).transform
    with pytest.raises(UsageError, match=r"^data\.transform: size: expected a side"):
        build_transform(factory, IMAGES, "data.transform")
