"""Batched augmentation: each sample's draw is a function of (seed, epoch, its index), never of its batch.

All three work by indexing, on any device, on uint8 and on floating point.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kdrobust.randomness import address, uniform


class Augment(Protocol):
    """A batched augmentation: anything with this signature."""

    def __call__(self, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
        """Augment a batch.

        Args:
            inputs: [B, *shape].
            keys: [B] integers; equal keys must get equal draws.
            seed: the address of the draws.
        """
        ...


def _integers(keys: Tensor, low: int, high: int, seed: int) -> Tensor:
    """[B] integers, uniform over low .. high, both included."""
    draws = uniform(keys, (), seed=seed, dtype=torch.float64)
    return low + (draws * (high - low + 1)).long()


def random_crop(inputs: Tensor, keys: Tensor, *, padding: int, seed: int) -> Tensor:
    """Pad by zeros and cut the original size out again: a shift by (dy, dx), each uniform over -padding .. padding.

    Args:
        inputs: [B, C, H, W].
        keys: [B] integers, e.g. sample indices.
        padding: pixels on each side, 0 ≤ padding; 4 is usual for 32×32 (He et al. 2016, section 4.2, arXiv:1512.03385).
        seed: the address of the draws.

    Returns:
        [B, C, H, W]: out[b, c, y, x] = in[b, c, y + dy_b, x + dx_b], and 0 outside.
    """
    if padding == 0:
        return inputs
    height, width = inputs.shape[-2:]
    shift_y = _integers(keys, -padding, padding, address(seed, "vertical"))
    shift_x = _integers(keys, -padding, padding, address(seed, "horizontal"))
    rows = torch.arange(height, device=inputs.device) + shift_y.unsqueeze(1)
    columns = torch.arange(width, device=inputs.device) + shift_x.unsqueeze(1)
    inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
    places = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
    flat = places.flatten(1).unsqueeze(1).expand(-1, inputs.shape[1], -1)
    moved = inputs.flatten(2).gather(2, flat).view_as(inputs)
    return moved * inside.unsqueeze(1).to(inputs.dtype)


def horizontal_flip(inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        inputs: [B, C, H, W].
        keys: [B] integers, e.g. sample indices.
        seed: the address of the draws.

    Returns:
        [B, C, H, W].
    """
    mirrored = uniform(keys, (), seed=seed) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(-1), inputs)


def cutout(inputs: Tensor, keys: Tensor, *, size: int, seed: int) -> Tensor:
    """Set one square to zero, its centre uniform over the pixels, the part outside of the image cut off.

    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, arXiv:1708.04552,
    section 3.2. The square spans y - ⌊size/2⌋ .. y - ⌊size/2⌋ + size - 1, and the same in x.

    Args:
        inputs: [B, C, H, W].
        keys: [B] integers, e.g. sample indices.
        size: side in pixels, 0 ≤ size; 16 is theirs for CIFAR-10, 8 for CIFAR-100.
        seed: the address of the draws.

    Returns:
        [B, C, H, W].
    """
    if size == 0:
        return inputs
    height, width = inputs.shape[-2:]
    top = _integers(keys, 0, height - 1, address(seed, "vertical")).unsqueeze(1) - size // 2
    left = _integers(keys, 0, width - 1, address(seed, "horizontal")).unsqueeze(1) - size // 2
    rows = torch.arange(height, device=inputs.device)
    columns = torch.arange(width, device=inputs.device)
    hidden = ((rows >= top) & (rows < top + size)).unsqueeze(2) & (
        (columns >= left) & (columns < left + size)
    ).unsqueeze(1)
    return inputs.masked_fill(hidden.unsqueeze(1), 0)


class Augmentation:
    """Crop, then flip, then cutout.

    Args:
        crop_padding: see `random_crop`; 0: no crop.
        flip: mirror at random, see `horizontal_flip`. Not for digits or letters.
        cutout: side of the square, see `cutout`; 0: none.

    Raises:
        ValueError: a negative size.
    """

    def __init__(self, *, crop_padding: int = 0, flip: bool = False, cutout: int = 0) -> None:
        for name, value in (("crop_padding", crop_padding), ("cutout", cutout)):
            if value < 0:
                raise ValueError(f"{name}: expected at least 0, got {value}")
        self.crop_padding = crop_padding
        self.flip = flip
        self.cutout = cutout

    @property
    def active(self) -> bool:
        """Whether it changes anything at all."""
        return bool(self.crop_padding or self.flip or self.cutout)

    def __call__(self, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
        """Augment [B, C, H, W]; see `Augment`."""
        inputs = random_crop(inputs, keys, padding=self.crop_padding, seed=address(seed, "crop"))
        if self.flip:
            inputs = horizontal_flip(inputs, keys, seed=address(seed, "flip"))
        return cutout(inputs, keys, size=self.cutout, seed=address(seed, "cutout"))
