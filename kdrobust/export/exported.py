"""An exported file as a module: to be timed, compared, and attacked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.serving import Runtime


class Exported(nn.Module):
    """What a runtime answers, as a module without gradient.

    Args:
        runtime: an opened file.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, K] of inputs in [0, 1], [B, ...]; computed on the CPU in float32."""
        pixels = inputs.detach().to("cpu", torch.float32).contiguous().numpy()
        logits = torch.from_numpy(self.runtime.answer(pixels).copy())
        return logits.to(inputs.device, inputs.dtype)


class _Instead(torch.autograd.Function):
    """The second tensor's values with the first one's gradient."""

    @staticmethod
    def forward(_ctx: Any, _twin: Tensor, exported: Tensor) -> Tensor:
        return exported.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class StraightThrough(nn.Module):
    """An exported model that can be attacked by gradient: it answers itself, and differentiates through its float twin.

    Quantisation rounds, so its own gradient is zero almost everywhere; the float model it was made from has a useful
    one. Every logit, and so every verdict and every goal an attack climbs, is the exported model's.

    Args:
        exported: the file, as a module.
        twin: the model it was made from, in eval mode.

    Source: backward pass differentiable approximation: Athalye, Carlini & Wagner, ICML 2018, arXiv:1802.00420.
    """

    def __init__(self, exported: nn.Module, twin: nn.Module) -> None:
        super().__init__()
        self.exported = exported
        self.twin = twin

    def forward(self, inputs: Tensor) -> Tensor:
        """The exported model's logits [B, K] of inputs in [0, 1], [B, ...]."""
        with torch.no_grad():
            logits: Tensor = self.exported(inputs)
        if not torch.is_grad_enabled():
            return logits
        answer: Tensor = _Instead.apply(self.twin(inputs), logits)
        return answer
