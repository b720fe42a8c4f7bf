"""The attack that does nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_logits, check_shapes, clean_logits, is_wrong
from kdrobust.attacks.goals import cross_entropy
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.undisturbed import undisturbed


class NoAttack:
    """The attack that does nothing: x' = x."""

    def __call__(self, model: Model, inputs: Tensor, labels: Tensor, **unused: Any) -> Tensor:
        """The inputs, a detached copy."""
        with torch.inference_mode(False):
            return inputs.detach().clone()

    def run(self, model: Model, inputs: Tensor, labels: Tensor, *, seed: int = 0, **unused: Any) -> AttackResult:
        """The inputs, and the cross-entropy and the verdict of the model, in eval mode, on them.

        Raises:
            AttackError: shapes that do not fit, or outputs that are no logits.
        """
        check_shapes(inputs, labels)
        with undisturbed(model, None, mode="eval", device=inputs.device, seed=seed), torch.no_grad():
            clean, truth = inputs.detach().clone(), labels.detach().long()
            logits = clean_logits(model, clean)
            check_logits(logits, truth)
            value = cross_entropy(logits, truth)
        fooled = is_wrong(logits, truth)
        return AttackResult(adversarial=clean, goal_start=value, goal_end=value, fooled=fooled)

    def describe(self) -> dict[str, Any]:
        """Plain values, for result files."""
        return {"attack": type(self).__name__}
