"""The contract of an attack: what may be attacked, and that nothing but the answer changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdrobust.errors import AttackError


def check_inputs(inputs: Tensor, labels: Tensor, bounds: tuple[float, float]) -> None:
    """Refuse inputs on which a robust accuracy would be a lie.

    Args:
        inputs: [B, ...] floating.
        labels: [B] integers.
        bounds: the valid pixel range.

    Raises:
        AttackError: one line with what was found and the remedy.
    """
    if not inputs.is_floating_point():
        raise AttackError(f"inputs are {inputs.dtype}: attacks need floating pixels; divide by 255")
    if labels.dim() != 1 or len(labels) != len(inputs):
        raise AttackError(f"labels have shape {tuple(labels.shape)} for {len(inputs)} inputs; expected ({len(inputs)},)")
    if labels.is_floating_point():
        raise AttackError(f"labels are {labels.dtype}: expected class numbers (int64)")
    if not inputs.numel():
        return
    if not bool(inputs.isfinite().all()):
        raise AttackError("inputs hold NaN or infinite pixels; clean the data first")
    low, high = float(inputs.min()), float(inputs.max())
    if low < bounds[0] or high > bounds[1]:
        scale = "divide by 255" if low >= 0 and high > 2 else "normalise inside the model, not in the data"
        raise AttackError(f"pixels lie in [{low:.4g}, {high:.4g}], not in [{bounds[0]:g}, {bounds[1]:g}]: {scale}")


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Refuse outputs that are no logits of these labels.

    Raises:
        AttackError: wrong shape, labels out of range, NaN, or probabilities instead of logits.
    """
    if logits.dim() != 2 or len(logits) != len(labels):
        raise AttackError(f"the model returned shape {tuple(logits.shape)} for {len(labels)} inputs; expected [B, K] logits")
    if not logits.numel():
        return
    classes = logits.shape[1]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise AttackError(f"labels lie in [{int(labels.min())}, {int(labels.max())}], the model has classes 0..{classes - 1}")
    if not bool(logits.isfinite().all()):
        raise AttackError("the model's logits are NaN or infinite on clean inputs")
    sums = logits.float().sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1.0).abs() < 1e-4).all()):
        raise AttackError("the model returns probabilities (rows sum to 1): drop its softmax, attacks need logits")


@contextmanager
def attack_mode(model: Callable[[Tensor], Tensor], mode: str) -> Iterator[None]:
    """A model as an attack needs it, and afterwards exactly as it was, even after an exception.

    Every module is put into eval (or train) mode and back into its own; parameters ask for no gradient meanwhile; in
    train mode the running statistics of normalisation layers are put back.

    Args:
        model: an `nn.Module`, or any function (then nothing is touched).
        mode: `eval` or `train`.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = []
    if mode == "train":
        buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        for module, _ in modes:
            module.training = mode == "train"
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in asking:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
