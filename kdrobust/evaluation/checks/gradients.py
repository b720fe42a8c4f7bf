"""S6: there are gradients to follow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrobust.evaluation.checks.probe import Finding, Probe, points, trust_check

WARN_ABOVE, FAIL_ABOVE = 0.001, 0.05


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (others.amax(dim=1) - own).sum()


GOALS = {"cross_entropy": _cross_entropy, "margin": _margin}


def input_gradient(model: nn.Module, inputs: Tensor, labels: Tensor, goal: str) -> Tensor:
    """Gradient of a goal, summed over samples, at the inputs; zero where the graph does not reach them.

    Written apart from the attacks' goals on purpose: a check must not share the mistake it looks for.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = inputs.clone().requires_grad_(True)
        logits = model(x)
        if not logits.requires_grad:
            return torch.zeros_like(inputs)
        (gradient,) = torch.autograd.grad(GOALS[goal](logits, labels), x, allow_unused=True)
    return torch.zeros_like(inputs) if gradient is None else gradient


@trust_check(
    "S6",
    "gradients are there",
    "Share of samples whose input gradient is exactly zero, or not finite, at x and at a random start, for "
    "cross-entropy and margin apart. Warns from 0.1 %, fails from 5 %.",
)
def zero_gradients(probe: Probe) -> Finding:
    """S6: an attack cannot climb where there is no slope."""
    rows = probe.pick()
    if not len(rows):
        return Finding(verdict="skipped", detail="no samples")
    inputs, labels, keys = probe.batch(rows)
    places = {"x": inputs, "start": probe.noisy(inputs, keys, seed=probe.seed("gradient"))}
    shares: dict[str, float] = {}
    for goal in GOALS:
        for place, at in places.items():
            gradient = input_gradient(probe.model, at, labels, goal).flatten(1)
            shares[f"{goal}/{place}/zero"] = float((gradient == 0).all(dim=1).float().mean())
            shares[f"{goal}/{place}/not_finite"] = float((~gradient.isfinite()).any(dim=1).float().mean())
    worst = {goal: max(value for key, value in shares.items() if key.startswith(goal)) for goal in GOALS}
    measured = {"samples": len(rows), **shares}
    detail = (
        f"no usable gradient on {points(worst['cross_entropy'])} (cross-entropy), {points(worst['margin'])} (margin)"
    )
    if max(worst.values()) < WARN_ABOVE:
        return Finding(verdict="pass", detail="every input has a gradient", measured=measured)
    if worst["margin"] < WARN_ABOVE:
        detail += ": the softmax is saturated"
    return Finding(verdict="fail" if max(worst.values()) >= FAIL_ABOVE else "warn", detail=detail, measured=measured)
