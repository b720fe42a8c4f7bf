"""Statistics of the whole batch, whichever process holds its samples; of this one's where there is only one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def global_sum(values: Tensor) -> Tensor:
    """Elementwise sum over the processes, no gradient; the shape is the same on all of them."""
    total = values.detach().clone()
    if is_distributed():
        dist.all_reduce(total)
    return total


def global_mean(values: Tensor) -> Tensor:
    """Mean over the samples of all processes, [] from [B]; their numbers of samples may differ."""
    total = global_sum(torch.stack([values.sum(), values.new_tensor(float(values.numel()))]))
    return total[0] / total[1]


def global_min(values: Tensor) -> Tensor:
    """Smallest value among the samples of all processes, [] from [B]."""
    least = values.detach().min()
    if is_distributed():
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return least


def global_max(values: Tensor) -> Tensor:
    """Largest value among the samples of all processes, [] from [B]."""
    return -global_min(-values)


def global_std(values: Tensor) -> Tensor:
    """Standard deviation (of the population) of the samples of all processes, [] from [B]."""
    values = values.detach()
    if not is_distributed():
        return values.std(unbiased=False)
    return global_mean((values - global_mean(values)).square()).sqrt()


class _Gather(torch.autograd.Function):
    """Concatenation over processes of equal first dimensions' sum; the gradient of the own part comes back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """All processes' samples, in rank order."""
        world = dist.get_world_size()
        counts = [torch.zeros(1, dtype=torch.long, device=values.device) for _ in range(world)]
        dist.all_gather(counts, torch.tensor([len(values)], device=values.device))
        sizes = [int(count) for count in counts]
        # ranks may hold unequal shares of the last batch, all_gather wants equal shapes
        padded = values.new_zeros((max(sizes), *values.shape[1:]))
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded)
        rank = dist.get_rank()
        ctx.world, ctx.begin, ctx.size = world, sum(sizes[:rank]), sizes[rank]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        """All processes compute the same loss of all samples: their gradients' sum is `world` times one's own."""
        own: Any = ctx
        mine: Tensor = gradients[0][own.begin : own.begin + own.size] * own.world
        return mine


def gather(values: Tensor) -> Tensor:
    """The samples of all processes in rank order, [B_1 + … + B_W, ...]; the gradient reaches this process's own.

    A loss computed on the result is the same on all processes, and DDP's average of its parameter gradients is the
    gradient that one process holding the whole batch would have found.
    """
    if not is_distributed():
        return values
    gathered: Tensor = _Gather.apply(values.contiguous())
    return gathered
