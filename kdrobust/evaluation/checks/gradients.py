"""S6 and S18: there are gradients to follow, and they lead upwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrobust.evaluation.checks.climb import GOALS, Goal, direction, input_gradient, margin, per_sample
from kdrobust.evaluation.checks.probe import UNDOUBTED, Finding, Probe, points, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import predict_all

WARN_ABOVE, FAIL_ABOVE = 0.001, 0.05
#: The step of S18: this share of ε, but no less than so much in the inputs' unit.
STEP_SHARE, SMALLEST_STEP = 0.05, 1e-3


def _gradient(model: nn.Module, inputs: Tensor, labels: Tensor, goal: Goal, size: int) -> Tensor:
    pieces = zip(torch.split(inputs, size), torch.split(labels, size), strict=True)
    return torch.cat([input_gradient(model, x, y, goal)[2] for x, y in pieces])


@trust_check(
    "S6",
    "gradients are there",
    "Share of samples whose input gradient is exactly zero, or not finite, at x and at a random start, for "
    "cross-entropy and margin apart. Warns from 0.1 %, fails from 5 %.",
    cost="4 gradients a sample",
)
def zero_gradients(probe: Probe) -> Finding:
    """S6: an attack cannot climb where there is no slope."""
    rows = probe.pick()
    if not len(rows):
        return Finding(verdict="skipped", detail="no samples")
    inputs, labels, keys = probe.batch(rows)
    places = {"x": inputs, "start": probe.noisy(inputs, keys, seed=probe.seed("gradient"))}
    shares: dict[str, float] = {}
    for name, goal in GOALS.items():
        for place, at in places.items():
            gradient = _gradient(probe.model, at, labels, goal, probe.batch_size).flatten(1)
            shares[f"{name}/{place}/zero"] = float((gradient == 0).all(dim=1).float().mean())
            shares[f"{name}/{place}/not_finite"] = float((~gradient.isfinite()).any(dim=1).float().mean())
    worst = {name: max(value for key, value in shares.items() if key.startswith(name)) for name in GOALS}
    measured = {"samples": len(rows), **shares}
    detail = (
        f"no usable gradient on {points(worst['cross_entropy'])} (cross-entropy), {points(worst['margin'])} (margin)"
    )
    if max(worst.values()) < WARN_ABOVE:
        return Finding(verdict="pass", detail="every input has a gradient", measured=measured)
    if worst["margin"] < WARN_ABOVE:
        detail += ": the softmax is saturated"
    return Finding(verdict="fail" if max(worst.values()) >= FAIL_ABOVE else "warn", detail=detail, measured=measured)


@trust_check(
    "S18",
    "gradients lead upwards",
    "Samples whose margin falls after a small step (ε/20, at least 0.001) along its own gradient, although the "
    "gradient promised a rise. Warns at the first, fails where their share is above 5 % beyond doubt (lower end of "
    "the 95 % Wilson interval).",
    cost="1 gradient and 1 forward pass a sample",
)
def true_gradients(probe: Probe) -> Finding:
    """S18: a backward pass that was written by hand may say anything; the forward pass cannot."""
    rows = probe.pick()
    inputs, labels, _ = probe.batch(rows)
    gradient = _gradient(probe.model, inputs, labels, margin, probe.batch_size) if len(rows) else inputs
    size = (STEP_SHARE * torch.as_tensor(probe.radii(inputs))).clamp(min=SMALLEST_STEP)
    way = direction(gradient, probe.threat.norm)
    moved = (inputs + per_sample(size.expand(len(inputs)), inputs) * way).clamp(*probe.threat.box)
    promised = (torch.nan_to_num(gradient) * (moved - inputs)).flatten(1).sum(dim=1)
    judged = promised > 0
    n = int(judged.sum())
    if n == 0:
        return Finding(verdict="skipped", detail="no gradient promises a rise")
    before, after = (
        margin(predict_all(probe.model, at[judged], probe.batch_size), labels[judged]) for at in (inputs, moved)
    )
    # less than a float32 can tell apart is no fall
    fell = int((after < before - 1e-6 * before.abs()).sum())
    ratio = float(((after - before) / promised[judged]).median())
    measured = {"samples": n, "step": float(size.mean()), "fell": fell, "median_rise_over_promised": ratio}
    detail = f"the margin fell on {fell} of {n} samples after a step along its gradient"
    if wilson(fell, n)[0] > UNDOUBTED:
        return Finding(verdict="fail", detail=detail, measured=measured)
    return Finding(verdict="warn" if fell else "pass", detail=detail, measured=measured)
