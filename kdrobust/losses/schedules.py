"""Schedules: any number of a term may change over the epochs. Pure functions of the epoch (a float, 0 at the start)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def _progress(epoch: float, begin: float, until: float) -> float:
    if until <= begin:
        raise ValueError(f"until ({until}) must lie after begin ({begin})")
    return min(max((epoch - begin) / (until - begin), 0.0), 1.0)


def linear(epoch: float, *, start: float, end: float, until: float, begin: float = 0.0) -> float:
    """From `start` at epoch `begin` in a straight line to `end` at epoch `until`; constant outside."""
    return start + (end - start) * _progress(epoch, begin, until)


def cosine(epoch: float, *, start: float, end: float, until: float, begin: float = 0.0) -> float:
    """From `start` to `end` along half a cosine: flat at both ends."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * _progress(epoch, begin, until)))


def step(epoch: float, *, start: float, milestones: Sequence[float], factor: float) -> float:
    """`start`, multiplied by `factor` at every milestone passed."""
    return start * factor ** sum(epoch >= milestone for milestone in milestones)


def switch(epoch: float, *, start: float, end: float, begin: float) -> float:
    """`start` before epoch `begin`, `end` from then on."""
    return end if epoch >= begin else start


def warmup(epoch: float, *, end: float, epochs: float) -> float:
    r"""From `end / epochs` in the first epoch to `end` in the one numbered `epochs`, one stair an epoch.

    The field's warm-up, $\min(e / \text{epochs}, 1)$ with epochs e counted from 1.
    """
    if epochs <= 0:
        raise ValueError(f"epochs must be positive, got {epochs}")
    return end * min((math.floor(epoch) + 1) / epochs, 1.0)
