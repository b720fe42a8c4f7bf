"""The contract of an attack: what may be attacked, and that nothing but the answer changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdrobust.errors import AttackError
from kdrobust.models.inplace import IN_PLACE, answer_of_copy

Model = Callable[[Tensor], Tensor]


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


@torch.no_grad()
def clean_logits(model: Model, inputs: Tensor) -> Tensor:
    """What a model answers to clean inputs, without gradient; yet to be checked by `check_logits`.

    Args:
        model: inputs to logits.
        inputs: clean x, [B, ...]; left as they are.

    Raises:
        AttackError: the model writes into its input, so that every distance to x would be one to something else.
    """
    logits, written = answer_of_copy(model, inputs)
    if written:
        raise AttackError(IN_PLACE)
    answered: Tensor = logits
    return answered


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


def is_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether a model answers another class than the label, [B] bool. NaN names no class: no attack succeeds by it.

    Args:
        logits: [B, K].
        labels: [B] integers.
    """
    return (logits.argmax(dim=1) != labels) & ~logits.isnan().any(dim=1)


def check_answers(adversarial: Tensor, logits: Tensor | None = None, *, attack: str = "the attack") -> None:
    """Refuse adversarial inputs from which no verdict follows. Reads values: one host synchronisation, or two.

    Args:
        adversarial: x', [B, ...].
        logits: the model's answers to them, [B, K]; None: not asked for.
        attack: what made them, as the message says it.

    Raises:
        AttackError: NaN or infinite values in x', or NaN among the answers.
    """
    broken = ~adversarial.flatten(1).isfinite().all(dim=1)
    if bool(broken.any()):
        raise AttackError(
            f"{attack}: {int(broken.sum())} of {len(broken)} adversarial inputs hold NaN or infinite values, from "
            "which nothing follows about the model; check the attack's numbers"
        )
    lost = None if logits is None else logits.isnan().any(dim=1)
    if lost is not None and bool(lost.any()):
        raise AttackError(
            f"{attack}: the model answers {int(lost.sum())} of {len(lost)} adversarial inputs with NaN, which is no "
            "class; check the model's weights, and where it computes in half precision that nothing overflows"
        )


@contextmanager
def attack_mode(model: Model | None, mode: str) -> Iterator[None]:
    """A model as an attack needs it, and afterwards exactly as it was, even after an exception.

    Every module is put into eval (or train) mode and back into its own; parameters ask for no gradient meanwhile. In
    train mode buffers are replaced by copies: what normalisation layers collect in the attack is thrown away.

    Args:
        model: an `nn.Module`, or any function (then nothing is touched).
        mode: `eval` or `train`.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    parameters = (parameter for module, _ in modes for parameter in module._parameters.values())
    # not for speed, `autograd.grad` to the inputs skips weight gradients anyway: this way none can reach a parameter
    # whatever a model or a goal does inside, `backward()` included
    asking = [each for each in parameters if each is not None and each.requires_grad and each.is_leaf]
    held = _swap_buffers(model) if mode == "train" else []
    try:
        for module, training in modes:
            # a module's attributes are slow to set
            if training != (mode == "train"):
                module.training = mode == "train"
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        for parameter in asking:
            parameter.requires_grad_(True)
        for module, name, buffer in held:
            module._buffers[name] = buffer


def _swap_buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    held = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies: dict[int, Tensor] = {}
    for module, name, buffer in held:
        # two modules that share a buffer go on sharing it
        module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
    return held
