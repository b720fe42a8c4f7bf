"""Corruptions against their definitions, and the promises every one of them makes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from kdrobust.data import corruptions
from kdrobust.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from kdrobust.errors import UsageError

EVERY = sorted(CORRUPTIONS)


def images(count=6, channels=3, side=16, *, width=None):
    """Smooth random pictures over the whole range."""
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(side))
    return torch.nn.functional.interpolate(coarse, size=(side, width or side), mode="bilinear").clamp(0, 1)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 32, 32), (2, 9, 13)])
def test_shapes_ranges_and_severities(name, channels, height, width):
    inputs, keys = images(4, channels, height, width=width), torch.arange(4)
    before, moved = inputs.clone(), []
    for severity in SEVERITIES:
        out = corrupt(inputs, name, severity, keys=keys, seed=1)
        assert out.shape == inputs.shape
        assert out.dtype == inputs.dtype
        assert 0.0 <= float(out.min()) <= float(out.max()) <= 1.0
        moved.append(float((out - inputs).abs().mean()))
    assert torch.equal(inputs, before)
    assert moved[0] > 1e-5
    # of a few pixels, pixelate and JPEG may lose a little less at a coarser step
    assert moved[4] > 1.3 * moved[0]
    if name not in ("pixelate", "jpeg"):
        assert moved == sorted(moved)


@pytest.mark.parametrize("name", EVERY)
def test_a_samples_corruption_depends_on_its_key_and_the_seed_alone(name):
    inputs, keys = images(), torch.tensor([9, 4, 4, 1, 0, 7])
    whole = corrupt(inputs, name, 3, keys=keys, seed=2)
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    shuffled = corrupt(inputs[order], name, 3, keys=keys[order], seed=2)
    assert torch.allclose(shuffled, whole[order], atol=1e-6)
    alone = torch.cat([corrupt(inputs[i : i + 1], name, 3, keys=keys[i : i + 1], seed=2) for i in range(6)])
    assert torch.allclose(alone, whole, atol=1e-6)
    other = corrupt(inputs, name, 3, keys=keys, seed=3)
    assert torch.equal(other, whole) is not CORRUPTIONS[name].draws
    twins = corrupt(inputs[:1].expand(2, -1, -1, -1), name, 3, keys=torch.tensor([4, 4]), seed=2)
    assert torch.allclose(twins[0], twins[1], atol=1e-6)


def test_gaussian_noise_has_the_deviation_it_says():
    flat = torch.full((4, 1, 64, 64), 0.5)
    out = corruptions.gaussian_noise(flat, torch.arange(4), std=0.1, seed=0)
    assert float(out.std()) == pytest.approx(0.1, rel=0.02)
    assert float(out.mean()) == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.6])
def test_shot_noise_is_poisson(value):
    photons = 12.0
    flat = torch.full((4, 1, 64, 64), value)
    counts = corruptions.shot_noise(flat, torch.arange(4), photons=photons, seed=0).double() * photons
    assert torch.allclose(counts, counts.round(), atol=1e-4)
    counts = counts.round().long().flatten().numpy()
    for k in range(10):
        expected = stats.poisson.pmf(k, value * photons)
        assert (counts == k).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / counts.size) + 1e-9)
    assert counts.max() <= photons
    with pytest.raises(ValueError, match="photons"):
        corruptions.shot_noise(flat, torch.arange(4), photons=0.0, seed=0)


def test_impulse_noise_replaces_a_share_by_black_and_white():
    flat = torch.full((4, 1, 64, 64), 0.5)
    out = corruptions.impulse_noise(flat, torch.arange(4), amount=0.2, seed=0)
    for value in (0.0, 1.0):
        assert float((out == value).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((out == 0.5).float().mean()) == pytest.approx(0.8, abs=0.015)


def test_gaussian_blur_is_scipys():
    inputs = images(2, 3, 20)
    out = corruptions.gaussian_blur(inputs, sigma=1.0)
    reference = ndimage.gaussian_filter(inputs.numpy(), sigma=(0, 0, 1.0, 1.0), mode="nearest", truncate=3.0)
    assert out.numpy() == pytest.approx(reference, abs=1e-5)


def test_defocus_blur_spreads_a_point_evenly_over_a_disc():
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1.0
    out = corruptions.defocus_blur(point, radius=3.0)[0, 0]
    assert float(out.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(out[7, 7]) == pytest.approx(float(out[7, 9]))
    assert float(out[7, 11]) == 0.0
    assert torch.allclose(out, out.T)
    assert torch.allclose(corruptions.defocus_blur(point, radius=1e-9), point, atol=1e-6)


def test_motion_blur_spreads_a_point_along_a_line_of_its_own():
    points = torch.zeros(3, 1, 15, 15)
    points[:, 0, 7, 7] = 1.0
    out = corruptions.motion_blur(points, torch.tensor([1, 2, 1]), length=6.0, seed=0)[:, 0].double()
    assert torch.equal(out[0], out[2])
    assert not torch.allclose(out[0], out[1], atol=0.01)
    steps = torch.arange(15, dtype=torch.float64) - 7
    for image in out[:2]:
        assert float(image.sum()) == pytest.approx(1.0, abs=1e-5)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        moments = torch.tensor([[(image * a * b).sum() for a in (rows, columns)] for b in (rows, columns)])
        short, long = torch.linalg.eigvalsh(moments)
        assert long > 5 * short


def test_light_and_contrast_by_hand():
    inputs = torch.tensor([0.2, 0.4, 0.9, 0.5]).view(1, 1, 2, 2)
    assert corruptions.brightness(inputs, shift=0.3).flatten().tolist() == pytest.approx([0.5, 0.7, 1.0, 0.8])
    assert corruptions.contrast(inputs, factor=0.5).flatten().tolist() == pytest.approx([0.35, 0.45, 0.7, 0.5])


def test_pixelate_averages_blocks():
    inputs = images(2, 1, 8)
    out = corruptions.pixelate(inputs, scale=0.5)
    blocks = inputs.view(2, 1, 4, 2, 4, 2).mean(dim=(3, 5))
    assert torch.allclose(out, blocks.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), atol=1e-6)
    assert torch.allclose(corruptions.pixelate(inputs, scale=0.01), inputs.mean(dim=(2, 3), keepdim=True), atol=1e-6)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "L")])
def test_jpeg_is_a_real_jpeg(channels, mode):
    inputs = images(2, channels, 16)
    out = corruptions.jpeg(inputs, quality=20)
    levels = (inputs[1] * 255).round().byte().numpy()
    picture = levels.transpose(1, 2, 0) if mode == "RGB" else levels[channels - 1]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=20)
    read = np.asarray(Image.open(file)) / 255.0
    mine = out[1].permute(1, 2, 0) if mode == "RGB" else out[1, channels - 1]
    assert mine.numpy() == pytest.approx(read, abs=1e-6)
    with pytest.raises(ValueError, match="quality"):
        corruptions.jpeg(inputs, quality=100)


def test_fog_brightens_evenly_over_the_channels_and_keeps_some_of_the_picture():
    dark = torch.zeros(3, 3, 32, 32)
    out = corruptions.fog(dark, torch.arange(3), thickness=1.0, seed=0)
    assert torch.equal(out[:, 0], out[:, 2])
    for image in out:
        assert (float(image.min()), float(image.max())) == pytest.approx((0.0, 0.5), abs=1e-5)
        # a veil, not noise: neighbours are alike
        assert float((image[0, 1:] - image[0, :-1]).abs().mean()) < 0.3 * float(image[0].std())
    white = corruptions.fog(torch.ones(1, 1, 8, 8), torch.arange(1), thickness=1.0, seed=0)
    assert float(white.min()) == pytest.approx(0.5)


def test_nothing_and_nonsense():
    assert corrupt(torch.zeros(0, 1, 8, 8), "jpeg", 1, keys=torch.arange(0), seed=0).shape == (0, 1, 8, 8)
    inputs, keys = images(1), torch.arange(1)
    with pytest.raises(UsageError, match=r"corruptions\.names: no corruption 'snow'; there are gaussian_noise"):
        corrupt(inputs, "snow", 1, keys=keys, seed=0)
    with pytest.raises(UsageError, match=r"corruptions\.severities: 6 is not one of 1, 2, 3, 4, 5"):
        corrupt(inputs, "fog", 6, keys=keys, seed=0)
    for wrong in (inputs[0], (inputs * 255).byte()):
        with pytest.raises(ValueError, match="need images"):
            corrupt(wrong, "fog", 1, keys=keys, seed=0)
