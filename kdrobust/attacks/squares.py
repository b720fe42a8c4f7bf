"""Proposals of the square attack: where each sample's next square lies and what is put there.

Every function takes `threat`, clean `inputs` [B, C, H, W] and what addresses or is the draws, and returns points
[B, C, H, W] inside ball and box. A signal is an image of one row, [B, C, 1, T]: its squares are runs of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdrobust import randomness
from kdrobust.attacks.threat import Threat, l2_norm


def start_linf(threat: Threat, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
    """Vertical stripes one pixel wide, each ±ε a channel."""
    _, channels, _, width = inputs.shape
    draws = randomness.uniform(keys, (channels, 1, width), seed=seed, dtype=inputs.dtype)
    return threat.project(inputs + threat.radius * _signs(draws), inputs, threat.radius)


def draws_of_queries(threat: Threat, inputs: Tensor, keys: Tensor, *, seeds: Sequence[int]) -> Tensor:
    """What the next points of several queries are made from, a seed each: [S, B, n], uniform in [0, 1)."""
    numbers = (2 if threat.norm == "linf" else 5) + inputs.shape[1]
    return randomness.uniforms(keys, (numbers,), seeds=seeds, dtype=inputs.dtype)


def next_linf(threat: Threat, point: Tensor, inputs: Tensor, draws: Tensor, *, share: float) -> Tensor:
    """A square set to ±ε, one sign a channel.

    Args:
        threat: ball and box.
        point: the best so far, [B, C, H, W].
        inputs: clean x.
        draws: of this query, [B, n], see `draws_of_queries`.
        share: of the image's area.
    """
    count, channels, height, width = inputs.shape
    down, across = sides = _sides(share, height, width, least=1)
    inside = _inside(_corner(draws[:, 0], height - down), _corner(draws[:, 1], width - across), sides, height, width)
    moved = inputs + threat.radius * _signs(draws[:, 2:]).view(count, channels, 1, 1)
    return threat.project(torch.where(inside, moved, point), inputs, threat.radius)


def start_l2(threat: Threat, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
    """A tiling of bumps with random signs, five to a side, of length ε in all."""
    _, channels, height, width = inputs.shape
    long = max((width if height == 1 else min(height, width)) // 5, 1)
    high = min(long, height)
    down, across = height // high, width // long
    signs = _signs(randomness.uniform(keys, (channels, down, across), seed=seed, dtype=inputs.dtype))
    tiles = signs.repeat_interleave(high, dim=2).repeat_interleave(long, dim=3)
    tiles = tiles * bump((high, long), inputs).repeat(down, across)
    top, left = (height - down * high) // 2, (width - across * long) // 2
    noise = torch.zeros_like(inputs)
    noise[:, :, top : top + down * high, left : left + across * long] = tiles
    noise = threat.radius * noise / l2_norm(noise).clamp(min=1e-12)
    return threat.project(inputs + noise, inputs, threat.radius)


def next_l2(threat: Threat, point: Tensor, inputs: Tensor, draws: Tensor, *, share: float) -> Tensor:
    """The length in one square moved into another, with what of ε is unused, along the old content plus a bump.

    Arguments as for `next_linf`.
    """
    count, channels, height, width = inputs.shape
    down, across = sides = _sides(share, height, width, least=3)
    tops, lefts = (_corner(draws[:, :2], height - down), _corner(draws[:, 2:4], width - across))
    into = _window(tops[:, 0], lefts[:, 0], sides, channels)
    away = _window(tops[:, 1], lefts[:, 1], sides, channels)
    noise = point - inputs
    either = _inside(tops[:, 0], lefts[:, 0], sides, height, width)
    either = either | _inside(tops[:, 1], lefts[:, 1], sides, height, width)
    unused = (threat.radius**2 - noise.square().flatten(1).sum(dim=1)).clamp(min=0.0)
    # a channel's new length in the square: what both squares held, and its part of what ε leaves
    length = ((noise * either).square().sum(dim=(2, 3)) + unused.unsqueeze(1) / channels).sqrt()
    shape = bump(sides, inputs)
    turned = shape.T if down == across else shape
    shape = torch.where(draws[:, 4].view(-1, 1, 1) < 0.5, shape, turned).unsqueeze(1)
    bumps = _signs(draws[:, 5:]).view(count, channels, 1, 1) * shape
    content = _unit(noise[into]) + bumps
    # in a square of one pixel the two may cancel
    content = torch.where(_length(content) > 1e-12, content, bumps)
    changed = noise.index_put(away, torch.zeros_like(content))
    changed = changed.index_put(into, _unit(content) * length.view(count, channels, 1, 1))
    return threat.project(inputs + changed, inputs, threat.radius)


def bump(sides: tuple[int, int], like: Tensor) -> Tensor:
    """Two pyramids of opposite sign one below the other, of length 1, [height, width]; in a single row, side by side.

    Source: Andriushchenko et al. 2020, eq. 2 and below.
    """
    height, width = sides
    if height == 1:
        half = width // 2
        whole = torch.cat([_pyramid(1, half, like), -_pyramid(1, width - half, like)], dim=1)
    else:
        half = height // 2
        whole = torch.cat([_pyramid(half, width, like), -_pyramid(height - half, width, like)])
    return whole / whole.square().sum().sqrt()


def _pyramid(height: int, width: int, like: Tensor) -> Tensor:
    """Falls off with the (Chebyshev) distance d from the centre as Σ_{j > d} 1 / j²; of length 1."""
    if not height or not width:
        return like.new_zeros(height, width)
    down = (torch.arange(height, device=like.device) - height // 2).abs()
    across = (torch.arange(width, device=like.device) - width // 2).abs()
    distance = torch.maximum(down.unsqueeze(1), across.unsqueeze(0))
    terms = 1.0 / torch.arange(1, max(height, width) // 2 + 2, device=like.device, dtype=like.dtype).square()
    tails = terms.flip(0).cumsum(0).flip(0)
    found = tails[distance]
    return found / found.square().sum().sqrt()


def _sides(share: float, height: int, width: int, *, least: int) -> tuple[int, int]:
    """Height and width of a square of a share of the image's area; of a single row, a part of this share."""
    side = max(round(share * width if height == 1 else math.sqrt(share * height * width)), least)
    if least > 1 and side % 2 == 0:
        side += 1
    if height == 1:
        return 1, min(side, width)
    side = min(side, height, width)
    return side, side


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0).to(draws.dtype)


def _corner(draws: Tensor, most: int) -> Tensor:
    """Whole numbers in 0 .. most from uniform ones."""
    # float32 draws times a whole number may round up to it
    return (draws * (most + 1)).long().clamp(max=most)


def _inside(top: Tensor, left: Tensor, sides: tuple[int, int], height: int, width: int) -> Tensor:
    """[B, 1, H, W] bool."""
    down = torch.arange(height, device=top.device) - top.unsqueeze(1)
    across = torch.arange(width, device=top.device) - left.unsqueeze(1)
    rows, columns = (down >= 0) & (down < sides[0]), (across >= 0) & (across < sides[1])
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _window(top: Tensor, left: Tensor, sides: tuple[int, int], channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index of a square in [B, C, H, W]; what it picks is [B, C, *sides]."""
    rows, columns = (torch.arange(side, device=top.device) for side in sides)
    sample = torch.arange(len(top), device=top.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=top.device).view(1, -1, 1, 1)
    down = (top.unsqueeze(1) + rows).view(-1, 1, sides[0], 1)
    across = (left.unsqueeze(1) + columns).view(-1, 1, 1, sides[1])
    return sample, channel, down, across


def _length(values: Tensor) -> Tensor:
    return values.square().sum(dim=(2, 3), keepdim=True).sqrt()


def _unit(values: Tensor) -> Tensor:
    """Each channel's square at length 1; zero stays zero."""
    return values / _length(values).clamp(min=1e-12)
