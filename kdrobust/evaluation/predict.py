"""Looking at a model without touching it: predictions, modes, buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdrobust.attacks.contract import clean_logits


def to_unit(inputs: Tensor, device: torch.device | str) -> Tensor:
    """Inputs as float32 in [0, 1] on the device; uint8 counts as 0 .. 255."""
    inputs = inputs.to(device)
    return inputs.float().div_(255.0) if inputs.dtype == torch.uint8 else inputs.float()


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits [B, K] in float32, without a graph."""
    logits: Tensor = model(inputs)
    return logits.float()


def predict_all(model: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    """Logits [N, K] in float32 of many inputs, so many at a time."""
    return torch.cat([predict(model, piece) for piece in torch.split(inputs, batch_size)])


class Connected(nn.Module):
    """A model whose outputs do not depend on its inputs as far as autograd can see, with a gradient of zero instead.

    Args:
        model: the model; every output stays what it is.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits: Tensor = self.model(inputs)
        return logits + 0.0 * inputs.flatten(1).sum(dim=1, keepdim=True)


def connected(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The model itself, or `Connected` where its graph does not reach the inputs, so that attacks can run on it at all.

    Such a model defends itself by hiding its gradients; the trust checks say so.

    Args:
        model: in eval mode.
        inputs: a few inputs in [0, 1].

    Raises:
        AttackError: the model changes its input in place.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # a graph refuses to be built where the model writes into x, with an error that names no remedy
        clean_logits(model, inputs[:2])
        x = inputs[:2].clone().requires_grad_(True)
        logits = model(x)
        if logits.requires_grad:
            (gradient,) = torch.autograd.grad(logits.sum(), x, allow_unused=True)
            if gradient is not None:
                return model
    return Connected(model)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and each of its modules back in its own mode afterwards, whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's buffers, batch-norm statistics among them."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def what_changed(model: nn.Module, before: dict[str, Tensor]) -> tuple[str, ...]:
    """What evaluating in eval mode left behind, in words: modules that train, buffers that differ from `before`."""
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    after = dict(model.named_buffers())
    buffers = [name for name, buffer in before.items() if not torch.equal(buffer, after[name])]
    found = [f"{name} is in training mode" for name in training[:3]]
    found += [f"buffer {name} changed" for name in buffers[:3]]
    return tuple(found)
