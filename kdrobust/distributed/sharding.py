"""A frozen teacher that does not fit on one device: each rank holds a share of its weights (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            # the finer the blocks the less is whole at a time; a list has no forward pass at which to gather
            yield from _blocks(child)
        elif next(child.parameters(), None) is not None:
            yield child


def shard_frozen(model: nn.Module, device: torch.device) -> None:
    """Cut a frozen model's weights over all ranks, in place; each block's are gathered while it is in use.

    A rank then holds 1/W of the weights on its device, and one block's whole while that computes. Answers and their
    gradients to the inputs are those of the whole model; the weights take none. Every rank has to ask the model equally
    often, as ranks with equal batches do. A model that is sharded already is left as it is.

    Args:
        model: without trainable parameters, on the CPU; moved to the device share by share.
        device: this rank's.

    Raises:
        ValueError: a trainable parameter.
    """
    if isinstance(model, FSDPModule):
        return
    if any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model: expected a frozen one; only what is not trained is sharded here")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for child in model.children():
        for block in _blocks(child):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to(device)
