from __future__ import annotations

import pytest
import torch

from kdrobust.data import Augmentation, cutout, horizontal_flip, random_crop
from kdrobust.randomness import address

KEYS = torch.arange(200)


@pytest.fixture(params=[torch.uint8, torch.float32])
def images(request):
    values = torch.randint(1, 256, (200, 3, 6, 5), generator=torch.Generator().manual_seed(0))
    return values.to(torch.uint8) if request.param == torch.uint8 else values.float() / 255


def crops_of(image, padding):
    """Every crop there is, by (dy, dx)."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    return {
        (dy - padding, dx - padding): padded[:, dy : dy + height, dx : dx + width]
        for dy in range(2 * padding + 1)
        for dx in range(2 * padding + 1)
    }


def squares_of(image, size):
    """Every cutout there is, by centre, pixel by pixel."""
    found = {}
    height, width = image.shape[1:]
    for cy in range(height):
        for cx in range(width):
            cut = image.clone()
            for y in range(cy - size // 2, cy - size // 2 + size):
                for x in range(cx - size // 2, cx - size // 2 + size):
                    if 0 <= y < height and 0 <= x < width:
                        cut[:, y, x] = 0
            found[cy, cx] = cut
    return found


def which(result, candidates):
    matches = [name for name, candidate in candidates.items() if torch.equal(result, candidate)]
    assert matches, "no such candidate"
    return matches


def test_crop_is_one_of_the_padded_images_crops(images):
    out = random_crop(images, KEYS, padding=2, seed=5)
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    shifts = [which(out[row], crops_of(images[row], 2)) for row in range(len(out))]
    # images hold no zero, so that no two crops are alike
    assert all(len(found) == 1 for found in shifts)
    assert {dy for ((dy, _),) in shifts} == {dx for ((_, dx),) in shifts} == {-2, -1, 0, 1, 2}
    # the two directions are drawn independently
    assert len({found[0] for found in shifts}) > 20


def test_flip_mirrors_about_half(images):
    out = horizontal_flip(images, KEYS, seed=5)
    mirrored = [torch.equal(out[row], torch.flip(images[row], dims=(2,))) for row in range(200)]
    same = [torch.equal(out[row], images[row]) for row in range(200)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_is_one_of_the_squares(images, size):
    out = cutout(images, KEYS, size=size, seed=5)
    assert out.dtype == images.dtype
    for row in range(len(out)):
        which(out[row], squares_of(images[row], size))


def test_cutout_centres_are_uniform_over_all_pixels_corners_too():
    out = cutout(torch.ones(6000, 1, 6, 5), torch.arange(6000), size=1, seed=5)
    counts = (out == 0).sum(dim=(0, 1))
    assert int(counts.sum()) == 6000
    assert (abs(counts - 200) < 5 * 200**0.5).all()


def test_a_draw_belongs_to_the_sample_not_to_the_batch(images):
    augment = Augmentation(crop_padding=2, flip=True, cutout=2)
    whole = augment(images, KEYS, seed=3)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    for chunk in order.split(17):
        assert torch.equal(augment(images[chunk], KEYS[chunk], seed=3), whole[chunk])
    assert not torch.equal(augment(images, KEYS, seed=4), whole)


def test_composition_is_crop_then_flip_then_cutout(images):
    out = Augmentation(crop_padding=1, flip=True, cutout=2)(images, KEYS, seed=9)
    expected = random_crop(images, KEYS, padding=1, seed=address(9, "crop"))
    expected = horizontal_flip(expected, KEYS, seed=address(9, "flip"))
    assert torch.equal(out, cutout(expected, KEYS, size=2, seed=address(9, "cutout")))


def test_off_is_the_identity(images):
    augment = Augmentation()
    assert not augment.active
    assert torch.equal(augment(images, KEYS, seed=0), images)
    assert Augmentation(flip=True).active


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
def test_negative_sizes_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 0, got -1"):
        Augmentation(**{name: -1})
