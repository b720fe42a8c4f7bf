"""Points of ball and box in half precision, where neighbouring numbers lie as far apart as an attack steps."""

from __future__ import annotations

import torch
from torch import Tensor

#: By how much points computed in float32 may leave ball and box: a share of ε, and a share of the largest value.
_SHARE, _UNIT = 1e-5, 1e-6


def rounded(points: Tensor, inputs: Tensor, *, norm: str, radius: float | Tensor, box: tuple[float, float]) -> Tensor:
    """Points in the type of `inputs`: the nearest numbers, but towards x where those would leave ball or box.

    x is a number of its own type, so between it and a point of ball and box lie numbers of that type in both. Points
    that were outside by more than rounding become the nearest numbers.

    Args:
        points: [B, ...], float32 or float64.
        inputs: clean x in half precision, [B, ...].
        norm: `linf` or `l2`.
        radius: ε, or one a sample as [B, 1, 1, ...].
        box: the bounds of valid values.

    Returns:
        [B, ...], by float64 arithmetic no farther than ε from x, and in the box.
    """
    clean, exact, found = inputs.double(), points.double(), points.to(inputs.dtype)
    low, high = box
    if isinstance(radius, Tensor):
        # computed in float32, which may have rounded it up
        radius = radius.double() * (1.0 - 2.0**-23)
    unit = _UNIT * max(abs(low), abs(high))
    room = (exact - clean).abs()
    moved = (found.double() - clean).abs()
    if norm == "linf":
        leaves = (moved > radius) & (room <= radius * (1.0 + _SHARE) + unit)
        limit = room.clamp(max=radius)  # type: ignore[arg-type]  # annotated for two numbers or two tensors
    else:
        far, length = (_length(each) for each in (moved, room))
        leaves = (far > radius) & (length <= radius * (1.0 + _SHARE) + unit * room[0:1].numel() ** 0.5)
        # a hair less than ε: the squares are summed in some order by whoever measures
        limit = room * ((1.0 - 1e-12) * radius / length.clamp(min=1e-300)).clamp(max=1.0)
    leaves = leaves | _outside(found, low, high) & ~_outside(exact, low - unit, high + unit)
    for _ in range(2):
        back = leaves & (((found.double() - clean).abs() > limit) | _outside(found, low, high))
        found = torch.where(back, torch.nextafter(found, inputs), found)
    return found


def _length(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1).view(-1, *([1] * (values.dim() - 1)))


def _outside(values: Tensor, low: float, high: float) -> Tensor:
    wide = values.double()
    return (wide < low) | (wide > high)
