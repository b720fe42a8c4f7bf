"""The contract of an attack: on what a robust accuracy would not be a lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdrobust.errors import AttackError


def check_shapes(inputs: Tensor, labels: Tensor, **others: Tensor | None) -> None:
    """Refuse types and shapes that do not fit together. Reads no values, so it costs no synchronisation.

    Args:
        inputs: [B, ...] floating.
        labels: [B] integers.
        **others: `keys` and `targets` [B], `initial` [B, ...]; None where there is none.

    Raises:
        AttackError: one line with what was found and the remedy.
    """
    if not inputs.is_floating_point():
        raise AttackError(f"inputs are {inputs.dtype}: attacks need floating pixels; divide by 255")
    count = len(inputs)
    for name, values in (("labels", labels), *others.items()):
        if values is None:
            continue
        expected = tuple(inputs.shape) if name == "initial" else (count,)
        if tuple(values.shape) != expected:
            raise AttackError(f"{name} have shape {tuple(values.shape)} for {count} inputs; expected {expected}")
        if name in ("labels", "targets") and (values.is_floating_point() or values.dtype == torch.bool):
            raise AttackError(f"{name} are {values.dtype}: expected class numbers (int64)")


def check_inputs(inputs: Tensor, labels: Tensor, bounds: Sequence[float] = (0.0, 1.0)) -> None:
    """Refuse inputs on which a robust accuracy would be a lie. Reads values: one host synchronisation.

    Args:
        inputs: [B, ...] floating.
        labels: [B] integers.
        bounds: the valid pixel range.

    Raises:
        AttackError: one line with what was found and the remedy.
    """
    check_shapes(inputs, labels)
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

    Args:
        logits: what the model returned on clean inputs.
        labels: [B] integers.

    Raises:
        AttackError: wrong shape, labels out of range, NaN, or probabilities instead of logits.
    """
    if not isinstance(logits, Tensor):
        raise AttackError(f"the model returned {type(logits).__name__}; expected a tensor of logits [B, K]")
    if logits.dim() != 2 or len(logits) != len(labels):
        found = tuple(logits.shape)
        raise AttackError(f"the model returned shape {found} for {len(labels)} inputs; expected [B, K] logits")
    if not logits.numel():
        return
    last = logits.shape[1] - 1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > last:
        raise AttackError(f"labels lie in [{low}, {high}], the model has classes 0..{last}; check data and model")
    if not bool(logits.isfinite().all()):
        raise AttackError("the model's logits are NaN or infinite on clean inputs; check its weights")
    # a softmax in half precision sums to 1 only roughly
    tolerance = 1e-4 if logits.dtype.itemsize >= 4 else 2e-2
    near_one = (logits.double().sum(dim=1) - 1.0).abs() < tolerance
    if bool(((logits >= 0).all(dim=1) & near_one).all()):
        raise AttackError("the model returns probabilities (rows sum to 1): drop its softmax, attacks need logits")
