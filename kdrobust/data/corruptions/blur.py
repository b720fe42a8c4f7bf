"""Blur: what a lens or a moving hand takes away."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kdrobust.randomness import address, uniform


def _filter(inputs: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image with its kernel [B or 1, k, k], k odd; edges are continued by their last pixels."""
    batch, channels, height, width = inputs.shape
    reach = kernels.shape[-1] // 2
    padded = functional.pad(inputs, (reach, reach, reach, reach), mode="replicate")
    weights = kernels.to(inputs.dtype).unsqueeze(1).expand(batch, channels, -1, -1).reshape(batch * channels, 1, -1)
    side = kernels.shape[-1]
    grouped = functional.conv2d(
        padded.reshape(1, batch * channels, *padded.shape[-2:]),
        weights.view(batch * channels, 1, side, side),
        groups=batch * channels,
    )
    # weights sum to one only up to rounding
    return grouped.view(batch, channels, height, width).clamp(0.0, 1.0)


def _offsets(reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    steps = torch.arange(-reach, reach + 1, device=device, dtype=torch.float64)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return rows, columns


def gaussian_blur(inputs: Tensor, *, sigma: float) -> Tensor:
    """Convolve with `exp(-(x² + y²) / 2σ²)`, normalised, cut at 3σ.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        sigma: in pixels, above 0.
    """
    rows, columns = _offsets(max(1, math.ceil(3 * sigma)), inputs.device)
    kernel = torch.exp(-(rows**2 + columns**2) / (2 * sigma**2))
    return _filter(inputs, (kernel / kernel.sum()).unsqueeze(0))


def defocus_blur(inputs: Tensor, *, radius: float) -> Tensor:
    """Convolve with a disc: what a point becomes out of focus.

    A pixel at distance r of the centre weighs `clip(radius + 1 - r, 0, 1)`: the rim falls off over one pixel, so that
    a radius below one does something and one of 0 nothing.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        radius: of the disc in pixels, above 0.
    """
    rows, columns = _offsets(max(1, math.ceil(radius)), inputs.device)
    kernel = (radius + 1.0 - torch.sqrt(rows**2 + columns**2)).clamp(0.0, 1.0)
    return _filter(inputs, (kernel / kernel.sum()).unsqueeze(0))


def motion_blur(inputs: Tensor, keys: Tensor, *, length: float, seed: int) -> Tensor:
    """Average along a line, each image in a direction of its own, uniform over the half circle.

    A pixel at (along, across) the line weighs `clip(length/2 + 1 - |along|, 0, 1) · clip(1 - |across|, 0, 1)`.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        keys: [B] integers; equal keys move in equal directions.
        length: of the line in pixels, above 0.
        seed: the address of the draws.
    """
    angle = math.pi * uniform(keys, (), seed=address(seed, "motion blur"), dtype=torch.float64)
    rows, columns = _offsets(max(1, math.ceil(length / 2)), inputs.device)
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    along, across = columns * cos + rows * sin, rows * cos - columns * sin
    kernels = (length / 2 + 1.0 - along.abs()).clamp(0.0, 1.0) * (1.0 - across.abs()).clamp(0.0, 1.0)
    return _filter(inputs, kernels / kernels.sum(dim=(1, 2), keepdim=True))
