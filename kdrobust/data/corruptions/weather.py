"""Fog: a bright veil, thicker in some places than in others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kdrobust.randomness import address, uniform


def fog(inputs: Tensor, keys: Tensor, *, thickness: float, roughness: float = 0.5, seed: int) -> Tensor:
    """Mix with a bright random field and scale back: `(x + t·f) / (1 + t)`, t the thickness.

    f in [0, 1] is a sum of octaves: uniform grids of 2, 3, 5, 9 ... points a side, enlarged bilinearly, each
    `roughness` times as strong as the last, the sum shifted and scaled to span [0, 1] in each image. All channels see
    the same f. Where Hendrycks & Dietterich build the field by diamond-square, octaves serve any image size.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        keys: [B] integers; equal keys get equal fog.
        thickness: t, 0 or more.
        roughness: strength of each finer octave, in (0, 1].
        seed: the address of the draws.
    """
    height, width = inputs.shape[-2:]
    field = inputs.new_zeros(len(inputs), 1, height, width)
    side, strength, octave = 2, 1.0, 0
    while side <= max(height, width) + 1:
        grid = uniform(keys, (1, side, side), seed=address(seed, "fog", octave), dtype=inputs.dtype)
        field += strength * functional.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
        side, strength, octave = 2 * side - 1, strength * roughness, octave + 1
    low, high = field.amin(dim=(-2, -1), keepdim=True), field.amax(dim=(-2, -1), keepdim=True)
    veil = (field - low) / (high - low).clamp(min=torch.finfo(inputs.dtype).eps)
    return ((inputs + thickness * veil) / (1.0 + thickness)).clamp(0.0, 1.0)
