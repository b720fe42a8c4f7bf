"""The gradient loop for measuring: a sample leaves the batch at the first iterate that fools the model."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.attacks.kernels import confirmed
from kdrobust.attacks.result import AttackResult, higher
from kdrobust.attacks.slope import look, slope
from kdrobust.attacks.task import Task
from kdrobust.attacks.threat import Threat, per_sample


def hunt(threat: Threat, task: Task, start: Tensor, *, steps: int, exact_steps: int = 0) -> AttackResult:
    """Climb until a sample is fooled; what is left of the batch goes on.

    Where a fast form of the model is climbed, the exact model confirms every answer that fools; the last iterate is
    looked at by the exact model in any case. No sample's verdict depends on another's. The goals reported are those of
    the form that was climbed there.

    Args:
        threat: ball and box.
        task: the batch.
        start: [B, ...]; projected first.
        steps: number of steps >= 0.
        exact_steps: how many of the last ones climb the exact model.
    """
    inputs = task.target.inputs
    point = threat.project(start, inputs, task.radius)
    rows = torch.arange(len(inputs), device=inputs.device)
    best, begun, worth = point.clone(), inputs.new_full((len(inputs),), torch.nan), None
    fooled = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    survived = task.survived
    if survived is not None:
        survived.zero_()
    on, gradient = task, torch.zeros_like(point)
    for step in range(steps + 1):
        last = step == steps
        exact = last or step >= steps - exact_steps
        model = on.exact if exact else on.target.model
        if last:
            value, logits = look(model, on.climb, point, sign=on.sign)
        else:
            value, logits, gradient = slope(model, on.climb, point, sign=on.sign)
        falls = confirmed(model, on.exact, point, logits, on.fooled)
        if worth is None:
            begun = value.clone()
            worth = torch.full_like(value, torch.nan)
        better = falls | higher(value, worth[rows])
        best[rows] = torch.where(per_sample(better, point), point, best[rows])
        worth[rows] = torch.where(better, value, worth[rows])
        fooled[rows] = falls
        if survived is not None and not last:
            survived[rows] += (~falls).to(survived.dtype)
        if last:
            break
        if bool(falls.any()):
            stands = torch.nonzero(~falls).flatten()
            if not len(stands):
                break
            rows, point, gradient, on = rows[stands], point[stands], gradient[stands], on.rows(stands)
        point = threat.ascend(point, gradient, on.target.inputs, on.size, on.radius)
    assert worth is not None
    return AttackResult(adversarial=best, goal_start=begun, goal_end=worth, fooled=fooled)
