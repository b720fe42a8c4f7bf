"""What a model costs: parameters, operations, size, and robustness for the money."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdrobust.errors import CheckpointError
from kdrobust.spec import InputSpec


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A model's cost.

    Attributes:
        parameters: number of trainable and frozen parameters.
        flops: floating-point operations of one sample's forward pass; a multiply-add counts as 2. Convolutions and
            matrix products are counted, element-wise work is not.
        size_bytes: parameters and buffers as stored.
    """

    parameters: int
    flops: int
    size_bytes: int


def model_cost(model: nn.Module, spec: InputSpec) -> Cost:
    """Count a model's parameters, operations and bytes; leaves its modes and buffers as they are.

    Args:
        model: takes [B, *spec.shape].
        spec: the data's shape.
    """
    modes = [(module, module.training) for module in model.modules()]
    tensor = next(model.parameters())
    sample = torch.zeros(1, *spec.shape, device=tensor.device, dtype=tensor.dtype)
    try:
        model.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(sample)
    finally:
        for module, training in modes:
            module.training = training
    stored = [*model.parameters(), *model.buffers()]
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=int(counter.get_total_flops()),
        size_bytes=sum(value.numel() * value.element_size() for value in stored),
    )


def checkpoint_bytes(path: str | Path) -> int:
    """Size of a checkpoint on disk; of a folder, that of all its files.

    Raises:
        CheckpointError: there is nothing at this path.
    """
    place = Path(path)
    if place.is_dir():
        return sum(entry.stat().st_size for entry in place.rglob("*") if entry.is_file())
    try:
        return place.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: has no size on disk ({error.strerror})") from None


def per_mflop(accuracy: float, flops: int) -> float | None:
    """Robust accuracy a million operations: `100·accuracy / (flops / 10⁶)`, in points a MFLOP.

    It rewards small models without end: read it beside the accuracy, never instead of it.

    Args:
        accuracy: share in [0, 1].
        flops: of one sample's forward pass (`Cost.flops`).

    Returns:
        None where no operations were counted.
    """
    return 100.0 * accuracy / (flops / 1e6) if flops else None
