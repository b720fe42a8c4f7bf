"""What every loss does before and after its formula: lift the precision, reduce the classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, float32
from torch.nn import functional as F


@contextmanager
def full_precision(values: Iterable[object]) -> Iterator[None]:
    """No autocast on the devices of some tensors: it would take the products of lifted numbers in half precision.

    A Gram matrix of features overflows float16, and its rounding in bfloat16 is a quarter of PKT's value.
    """
    devices = {value.device.type for value in values if isinstance(value, Tensor)}
    with ExitStack() as stack:
        for device in devices:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def lift(values: Tensor) -> Tensor:
    """At least float32, whatever autocast produced: softmax at a temperature is not safe in half precision."""
    return values.to(float32) if values.dtype.itemsize < 4 else values


def reduce_classes(values: Tensor, reduction: str) -> Tensor:
    """Reduce [B, K] over the classes.

    Args:
        values: one value per sample and class.
        reduction: `classes_sum` (the definition of a divergence) or `classes_mean` (the mean over batch *and* classes
            that PyTorch's `KLDivLoss()` defaults to and much official code uses: 1/K of the definition).

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction == "classes_sum":
        return values.sum(dim=1)
    if reduction == "classes_mean":
        return values.mean(dim=1)
    raise ValueError(f"reduction must be classes_sum or classes_mean, got {reduction!r}")


def check_temperature(temperature: float) -> None:
    """Raise a ValueError unless the temperature is positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")


def kl_per_class(target: Tensor, logits: Tensor) -> Tensor:
    r"""The summands $p_j (\log p_j - \log q_j)$ of KL(p ‖ q), [B, K], from logits of both.

    Everything stays in log space, so a probability that underflows to zero contributes 0, never NaN, and the gradient
    through the target (TRADES lets it pass) is finite too.
    """
    log_target = F.log_softmax(target, dim=1)
    return log_target.exp() * (log_target - F.log_softmax(logits, dim=1))


def safe_root(squared: Tensor) -> Tensor:
    """The square root, elementwise; at 0 its gradient is 0 instead of infinite.

    Where two things agree there is nothing to learn, and a gradient of 0 says so.
    """
    away = squared > 0
    return torch.where(away, torch.where(away, squared, squared.new_ones(())).sqrt(), squared)
