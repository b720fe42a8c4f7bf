"""Addressed randomness: a draw is a function of where it is used, never of what was drawn before.

A resumed run, another batch size, another order and another number of processes therefore see the same numbers.
Two tools: `generator` for draws of one address (a shuffle), and `uniform` / `normal` for draws of many addresses at
once (one noise image a sample), computed by a counter-based hash without any generator state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK64 = (1 << 64) - 1


def address(seed: int, purpose: str, *where: int) -> int:
    """Hash (seed, purpose, where ...) to an integer in [0, 2**63).

    Args:
        seed: the run's seed.
        purpose: what is drawn, e.g. `"shuffle"`; two purposes never share numbers.
        where: epoch, step, rank, restart ...: whatever tells two draws apart.
    """
    text = "/".join([str(int(seed)), purpose, *(str(int(part)) for part in where)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *where: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one address (see `address`)."""
    return torch.Generator(device=device).manual_seed(address(seed, purpose, *where))


def _signed(value: int) -> int:
    value &= _MASK64
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(values: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically: clear the copies of the sign bit
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a bijection of 64-bit words."""
    values = (values ^ _shift_right(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shift_right(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shift_right(values, 31)


def _words(keys: Tensor, shape: Sequence[int], seed: int) -> Tensor:
    count = math.prod(shape)
    gamma = _signed(0x9E3779B97F4A7C15)
    counters = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * gamma
    rows = _mix(keys.to(torch.int64) * gamma + _signed(seed))
    return _mix(rows.unsqueeze(1) + counters).view(len(keys), *shape)


def uniform(keys: Tensor, shape: Sequence[int], *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1), one block of `shape` per key.

    Args:
        keys: [B] integers, e.g. sample indices; equal keys get equal blocks whatever else is in the batch.
        shape: shape of one block.
        seed: an `address`.
        dtype: floating type of the result; 53 random bits in float64, 24 in every narrower type.

    Returns:
        [B, *shape] on the device of `keys`.
    """
    bits = 53 if dtype == torch.float64 else 24
    draw = _shift_right(_words(keys, shape, seed), 64 - bits)
    return draw.to(torch.float64 if bits == 53 else torch.float32).mul_(2.0**-bits).to(dtype)


def normal(keys: Tensor, shape: Sequence[int], *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, one block of `shape` per key, by the Box-Muller transform. See `uniform`."""
    radius = uniform(keys, shape, seed=address(seed, "radius"), dtype=dtype)
    angle = uniform(keys, shape, seed=address(seed, "angle"), dtype=dtype)
    return torch.sqrt(-2.0 * torch.log1p(-radius)) * torch.cos(2.0 * math.pi * angle)
