"""A search without gradients, written apart from the attacks on purpose: a check must not share their mistakes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrobust.evaluation.checks.climb import into, margin, per_sample
from kdrobust.evaluation.predict import predict_all
from kdrobust.randomness import address, uniform

#: Share of the pixels a first patch covers, and the shares of all queries after which the patch halves.
FIRST_PATCH, HALVED_AT = 0.5, (0.02, 0.08, 0.2, 0.4, 0.6, 0.8)


def random_patches(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    keys: Tensor,
    *,
    norm: str,
    eps: float | Tensor,
    queries: int,
    seed: int,
    box: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 128,
) -> Tensor:
    """Search without gradients: a random patch is pushed to the ball's surface and kept where the margin rises.

    Args:
        model: in eval mode.
        inputs: [B, ...] in the box; what is no image counts as one row of pixels.
        labels: [B] int64.
        keys: [B] integers; a sample's draws depend on its key and the seed alone.
        norm: `linf` or `l2`.
        eps: radius, in the inputs' unit, one for all or [B].
        queries: forward passes a sample, until it is broken.
        seed: address of the draws.
        box: the range of valid values.
        batch_size: samples at once.

    Returns:
        [B] bool, broken.

    Source: after the idea of Andriushchenko et al., Square Attack, ECCV 2020, arXiv:1912.00049.
    """
    broken = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    if not len(labels):
        return broken
    channels, height, width = inputs.shape[1:] if inputs.dim() == 4 else (1, 1, inputs[0].numel())
    clean = inputs.reshape(-1, channels, height, width)
    rows = torch.arange(len(labels), device=labels.device)
    radius = torch.as_tensor(eps, dtype=inputs.dtype, device=inputs.device).expand(len(labels))
    # columns of one sign each reach far with a single query
    columns = torch.where(uniform(keys, (channels, 1, width), seed=address(seed, "columns")) < 0.5, 1.0, -1.0)
    proposal = into(clean + reach(columns.expand_as(clean), norm, radius), clean, norm=norm, eps=radius, box=box)
    draws = uniform(keys, (queries, 2 + channels), seed=address(seed, "patches"))
    best, highest = clean, torch.full((len(labels),), -torch.inf, device=labels.device)
    for query in range(queries):
        value = margin(predict_all(model, proposal.reshape(-1, *inputs.shape[1:]), batch_size), labels[rows])
        better = value > highest
        best = torch.where(better.view(-1, 1, 1, 1), proposal, best)
        highest = torch.where(better, value, highest)
        broken[rows[value > 0]] = True
        rows, best, highest = rows[value <= 0], best[value <= 0], highest[value <= 0]
        if not len(rows):
            break
        draw = draws[rows, query]
        side = (FIRST_PATCH * 0.5 ** sum(query >= at * queries for at in HALVED_AT)) ** 0.5
        patch = _patch(draw, side, height, width)
        push = torch.where(draw[:, 2:] < 0.5, 1.0, -1.0)[:, :, None, None]
        delta, near = best - clean[rows], radius[rows]
        if norm == "linf":
            delta = torch.where(patch, per_sample(near, push) * push, delta)
        else:
            # the patch joins the change so far, as long as that is; together they are brought back to length ε
            delta = reach(torch.where(patch, delta + reach(push * patch, norm, near), delta), norm, near)
        proposal = into(clean[rows] + delta, clean[rows], norm=norm, eps=near, box=box)
    return broken


def reach(delta: Tensor, norm: str, eps: float | Tensor) -> Tensor:
    """A change, [B, ...], brought to length ε, one for all or [B]; in ℓ∞ every value that changes changes by ε."""
    if isinstance(eps, Tensor):
        eps = per_sample(eps, delta)
    if norm == "linf":
        return eps * delta.sign()
    return eps * delta / per_sample(delta.flatten(1).norm(dim=1).clamp(min=1e-12), delta)


def _patch(draw: Tensor, side: float, height: int, width: int) -> Tensor:
    """[B, 1, H, W] bool: a rectangle of `side` times the image's sides, placed by two uniform numbers a sample."""
    inside = []
    for place, length in enumerate((height, width)):
        extent = max(1, round(side * length))
        first = (draw[:, place] * (length - extent + 1)).long()[:, None]
        pixels = torch.arange(length, device=draw.device)
        inside.append((pixels >= first) & (pixels < first + extent))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
