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
#: Random bits of a draw: as many as the type's significand holds, so that none is rounded up to 1.
_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
#: Words that are mixed at a time on a CPU: with their copy, half a megabyte.
_CACHED = 1 << 15


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


def _shift_right(values: Tensor, bits: int, out: Tensor) -> Tensor:
    # torch shifts int64 arithmetically: clear the copies of the sign bit
    return torch.bitwise_right_shift(values, bits, out=out).bitwise_and_((1 << (64 - bits)) - 1)


def _mix_(values: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a bijection of 64-bit words, in place.

    A batch's noise is a few large arrays: fresh memory for every operation doubles its time.
    """
    spare = torch.empty_like(values)
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values.bitwise_xor_(_shift_right(values, bits, spare)).mul_(_signed(factor))
    return values.bitwise_xor_(_shift_right(values, 31, spare))


def _uniform(keys: Tensor, shape: Sequence[int], seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Uniform numbers for each seed, key and place, [S, B, *shape]."""
    bits, wide = _BITS[dtype], torch.float64 if dtype == torch.float64 else torch.float32
    count, gamma = math.prod(shape), _signed(0x9E3779B97F4A7C15)
    counters = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * gamma
    offsets = torch.tensor([[_signed(seed)] for seed in seeds], device=keys.device)
    rows = _mix_(keys.to(torch.int64) * gamma + offsets).view(-1, 1)
    draws = torch.empty(len(rows), count, device=keys.device, dtype=wide)
    # on a CPU in pieces that stay in its cache, which halves the time of a large batch
    size = max(1, _CACHED // max(1, count)) if keys.device.type == "cpu" else max(1, len(rows))
    for first in range(0, len(rows), size):
        words = _mix_(rows[first : first + size] + counters)
        draws[first : first + size] = _shift_right(words, 64 - bits, words)
    return draws.mul_(2.0**-bits).to(dtype).view(len(seeds), len(keys), *shape)


def uniform(keys: Tensor, shape: Sequence[int], *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1), one block of `shape` per key.

    Args:
        keys: [B] integers, e.g. sample indices; equal keys get equal blocks whatever else is in the batch.
        shape: shape of one block.
        seed: an `address`.
        dtype: floating type of the result; 53 random bits in float64, 24 in float32, 11 in float16, 8 in bfloat16.

    Returns:
        [B, *shape] on the device of `keys`.
    """
    return _uniform(keys, shape, (seed,), dtype)[0]


def uniforms(keys: Tensor, shape: Sequence[int], *, seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """`uniform` for several seeds at once, [S, B, *shape]: for small blocks the number of operations is what counts."""
    return _uniform(keys, shape, seeds, dtype)


def normal(keys: Tensor, shape: Sequence[int], *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, one block of `shape` per key, by the Box-Muller transform. See `uniform`.

    In half precision those of float32, rounded.
    """
    wide = torch.promote_types(dtype, torch.float32)
    # both at once: for a small batch the number of operations is what counts
    draws = _uniform(keys, shape, (address(seed, "radius"), address(seed, "angle")), wide)
    radius, angle = draws[0], draws[1]
    return radius.neg_().log1p_().mul_(-2.0).sqrt_().mul_(angle.mul_(2.0 * math.pi).cos_()).to(dtype)
