"""S7, S8, S10: more effort, or another goal, would not have changed the figure."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.evaluation.checks.climb import Path, climb, cross_entropy, margin
from kdrobust.evaluation.checks.probe import UNDOUBTED, Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.intervals import wilson

#: IoAF: the best goal so far, scaled to [0, 1], may change so much over so many last steps.
LAST_CHANGE, LAST_STEPS = 0.05, 10
#: Step sizes of usual and of long attacks, as shares of ε.
SHORT_STRIDE, LONG_STRIDE = 0.25, 0.1
#: Accuracies under two goals may differ by so much (S10).
GOAL_GAP = 0.05


def _again(probe: Probe, rows: Tensor, steps: int, starts: range, *, leave: bool = True) -> Path:
    """PGD on cross-entropy from some random starts, [starts · B]; with more steps they are smaller, down to ε/10."""
    inputs, labels, keys = probe.batch(rows)
    begin = [probe.noisy(inputs, keys, seed=probe.seed("start", start)) for start in starts]
    inputs = inputs.repeat(len(begin), *[1] * (inputs.dim() - 1))
    return climb(
        probe.model,
        inputs,
        labels.repeat(len(begin)),
        norm=probe.threat.norm,
        eps=probe.radii(inputs),
        box=probe.threat.box,
        steps=steps,
        stride=SHORT_STRIDE if steps <= probe.settings.short_steps else LONG_STRIDE,
        begin=torch.cat(begin),
        leave=leave,
        batch_size=probe.batch_size,
    )


def _survivors(probe: Probe) -> Tensor:
    """Rows of samples that survived everything; none if no attack with gradients was among it."""
    return probe.pick(probe.withstood() & probe.evaluation.worst_case, most=probe.settings.survivors)


NOBODY = Finding(verdict="skipped", detail="needs survivors of a gradient attack")


def unfinished(values: Tensor) -> Tensor:
    """Whose climb had not come to rest: the best value so far, scaled to [0, 1], rose by more than 0.05 at the end.

    Args:
        values: [B, steps + 1] the goal on the way.

    Returns:
        [B] bool. A goal that never rose is no unfinished climb.

    Source: Pintor et al., Indicators of Attack Failure, NeurIPS 2022, arXiv:2106.09947.
    """
    best = values.cummax(dim=1).values
    span = (best[:, -1] - best[:, 0]).clamp(min=1e-12)
    return (best[:, -1] - best[:, max(0, best.shape[1] - 1 - LAST_STEPS)]) / span > LAST_CHANGE


@trust_check(
    "S7",
    "the attack converged",
    "Survivors of the suite that 100 steps break, and survivors on which the goal, scaled to [0, 1], still rises by "
    "more than 0.05 over the last 10 of 20 steps. Warns where the first are above max(0.2 points, two standard errors) "
    "or the second above 5 % beyond doubt.",
    severity="warn",
    cost="120 gradients a survivor",
)
def converged(probe: Probe) -> Finding:
    """S7: with five times the steps nothing should change."""
    rows = _survivors(probe)
    n = len(rows)
    if n == 0:
        return NOBODY
    short, long = probe.settings.short_steps, probe.settings.long_steps
    moving = int(unfinished(_again(probe, rows, short, range(1), leave=False).values).sum())
    broken = int(_again(probe, rows, long, range(1)).broken.sum())
    measured = {"survivors": n, "short": short, "long": long, "broken_by_long": broken, "unfinished": moving}
    problems = []
    if broken > n * tolerance(broken, 0, n):
        problems.append(f"{long} steps break {broken} of {n} survivors")
    if wilson(moving, n)[0] > UNDOUBTED:
        problems.append(f"after {short} steps the goal still rises on {moving} of {n} survivors")
    if problems:
        return Finding(verdict="warn", detail="; ".join(problems), measured=measured)
    return Finding(verdict="pass", detail=f"{long} steps break {broken} of {n} survivors", measured=measured)


@trust_check(
    "S8",
    "restarts change nothing",
    "Survivors of the suite that 4 further random starts of 20 steps break. Warns above max(0.2 points, two standard "
    "errors).",
    severity="warn",
    cost="80 gradients a survivor",
)
def restarts(probe: Probe) -> Finding:
    """S8: where the start decides, one start is an upper bound and no figure."""
    rows = _survivors(probe)
    n = len(rows)
    if n == 0:
        return NOBODY
    further = probe.settings.restarts - 1
    fell = _again(probe, rows, probe.settings.short_steps, range(1, 1 + further)).broken if further else None
    broken = 0 if fell is None else int(fell.view(further, n).any(dim=0).sum())
    detail = f"{further} further starts break {broken} of {n} survivors"
    measured = {"survivors": n, "further": further, "broken": broken}
    warned = broken > n * tolerance(broken, 0, n)
    return Finding(verdict="warn" if warned else "pass", detail=detail, measured=measured)


@trust_check(
    "S10",
    "cross-entropy and margin agree",
    "Accuracy under 20 steps of PGD on cross-entropy minus that on the margin, from the same start. Warns above "
    "max(5 points, two standard errors of the paired difference): scaled or saturated logits.",
    severity="warn",
    cost="up to 40 gradients a sample, until it is broken",
)
def goals_agree(probe: Probe) -> Finding:
    """S10: the margin does not saturate; cross-entropy does."""
    rows = probe.pick(probe.evaluation.clean, most=probe.settings.survivors)
    n = len(rows)
    if n == 0:
        return Finding(verdict="skipped", detail="nobody is right without an attack")
    inputs, labels, keys = probe.batch(rows)
    start = probe.noisy(inputs, keys, seed=probe.seed("start", 0))
    by_entropy, by_margin = (
        climb(
            probe.model,
            inputs,
            labels,
            norm=probe.threat.norm,
            eps=probe.radii(inputs),
            box=probe.threat.box,
            steps=probe.settings.short_steps,
            stride=SHORT_STRIDE,
            goal=goal,
            begin=start,
            batch_size=probe.batch_size,
        ).broken
        for goal in (cross_entropy, margin)
    )
    only_margin, only_entropy = int((by_margin & ~by_entropy).sum()), int((by_entropy & ~by_margin).sum())
    gap = (only_margin - only_entropy) / n
    measured = {"samples": n, "only_margin": only_margin, "only_cross_entropy": only_entropy, "gap": gap}
    detail = f"cross-entropy leaves {points(gap)} more standing than the margin ({n} samples)"
    warned = gap > max(GOAL_GAP, tolerance(only_margin, only_entropy, n))
    return Finding(verdict="warn" if warned else "pass", detail=detail, measured=measured)
