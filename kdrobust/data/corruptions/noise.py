"""Noise: what a sensor adds."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.randomness import address, normal, uniform


def gaussian_noise(inputs: Tensor, keys: Tensor, *, std: float, seed: int) -> Tensor:
    """Electronic noise: `clip(x + std·n, 0, 1)`, n standard normal at every pixel and channel.

    Args:
        inputs: [B, *shape] floats in [0, 1].
        keys: [B] integers, e.g. sample indices; equal keys get equal noise.
        std: standard deviation in pixels of [0, 1].
        seed: the address of the draws.
    """
    noise = normal(keys, inputs.shape[1:], seed=address(seed, "gaussian noise"), dtype=inputs.dtype)
    return (inputs + std * noise).clamp(0.0, 1.0)


def shot_noise(inputs: Tensor, keys: Tensor, *, photons: float, seed: int) -> Tensor:
    """Photon noise: `clip(Poisson(photons·x) / photons, 0, 1)`; bright pixels vary more than dark ones.

    A Poisson count is drawn by inversion, the smallest k with P(X ≤ k) > u, from one uniform number a pixel.

    Args:
        inputs: [B, *shape] floats in [0, 1].
        keys: [B] integers; equal keys get equal draws.
        photons: mean count at a pixel of 1, in (0, 500]; fewer are noisier.
        seed: the address of the draws.

    Raises:
        ValueError: `photons` out of range.
    """
    if not 0.0 < photons <= 500.0:
        raise ValueError(f"photons must lie in (0, 500], got {photons}")
    draw = uniform(keys, inputs.shape[1:], seed=address(seed, "shot noise"), dtype=torch.float64)
    rate = inputs.double() * photons
    chance = torch.exp(-rate)
    below, count = chance.clone(), torch.zeros_like(rate)
    # counts above `photons` saturate at 1 after the division: nobody sees how far above
    for k in range(1, int(photons) + 2):
        count += (draw >= below).to(count.dtype)
        chance = chance * rate / k
        below += chance
    return (count / photons).clamp(0.0, 1.0).to(inputs.dtype)


def impulse_noise(inputs: Tensor, keys: Tensor, *, amount: float, seed: int) -> Tensor:
    """Bit errors, "salt and pepper": each value turns 0 or 1 with probability `amount / 2` each.

    Args:
        inputs: [B, *shape] floats in [0, 1].
        keys: [B] integers; equal keys get equal draws.
        amount: share of values replaced, in [0, 1].
        seed: the address of the draws.
    """
    draw = uniform(keys, inputs.shape[1:], seed=address(seed, "impulse noise"))
    noisy = inputs.masked_fill(draw < amount / 2, 0.0)
    return noisy.masked_fill(draw >= 1.0 - amount / 2, 1.0)
