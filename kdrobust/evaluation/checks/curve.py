"""S4: accuracy over ε, from nothing to everything."""

from __future__ import annotations

import itertools
import math

import torch

from kdrobust.evaluation.checks.climb import climb
from kdrobust.evaluation.checks.probe import Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import predict_all

#: ε of the curve in 1/255 of the box's width; ℓ2 takes them as shares of its diameter, √d times that.
LEVELS = (0, 2, 4, 8, 16, 32, 64, 128, 255)


@trust_check(
    "S4",
    "the curve falls to chance",
    "Accuracy under 10 steps of PGD from x at ε = 0, 2, 4, 8, 16, 32, 64, 128, 255 of 255 of the width of the box of "
    "valid values (ℓ2: times √d). Fails where it rises from one ε to the next by more than max(0.2 points, two "
    "standard errors of the paired difference), or ends above chance beyond doubt (lower end of the 95 % Wilson "
    "interval). Models with one answer are left out.",
    cost="up to 80 gradients a sample, until it is broken",
)
def falling_curve(probe: Probe) -> Finding:
    """S4: a larger ball holds every smaller one, and the largest holds every image."""
    rows = probe.pick(most=probe.settings.survivors)
    n = len(rows)
    if n == 0:
        return Finding(verdict="skipped", detail="no samples")
    inputs, labels, _ = probe.batch(rows)
    logits = predict_all(probe.model, inputs, probe.batch_size)
    answers = logits.argmax(dim=1)
    if bool((answers == answers[0]).all()):
        return Finding(verdict="skipped", detail="the model gives one answer to everything: nothing can change it")
    norm, steps = probe.threat.norm, probe.settings.curve_steps
    box = probe.threat.box
    unit = (box[1] - box[0]) * (math.sqrt(inputs[0].numel()) if norm == "l2" else 1.0)
    right = answers == labels
    # every ε at once: as many samples, far fewer passes
    radii = unit * torch.tensor(LEVELS[1:], dtype=inputs.dtype, device=inputs.device) / 255
    path = climb(
        probe.model,
        inputs[right].repeat(len(radii), *[1] * (inputs.dim() - 1)),
        labels[right].repeat(len(radii)),
        norm=norm,
        eps=radii.repeat_interleave(int(right.sum())),
        box=box,
        steps=steps,
        stride=2.5 / steps,
        batch_size=probe.batch_size,
    )
    stood = ~path.broken.view(len(radii), -1)
    standing = [right, *(torch.zeros_like(right).masked_scatter(right, each) for each in stood)]
    counts = [int(each.sum()) for each in standing]
    eps_values = [unit * level / 255 for level in LEVELS]
    chance = 1.0 / logits.shape[1]
    measured = {
        # these radii are no shares of a sample's norm: they belong on no axis with a relative threat's ε
        "norm": f"absolute {norm}" if probe.threat.relative else norm,
        "eps": eps_values,
        "accuracy": [count / n for count in counts],
        "correct": counts,
        "n": n,
        "steps": steps,
        "chance": chance,
    }
    problems = []
    for at, (before, after) in enumerate(itertools.pairwise(standing)):
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        if gained - lost > n * tolerance(gained, lost, n):
            low, high = eps_values[at : at + 2]
            told = f"from {points(counts[at] / n)} at ε = {low:.3g} to {points(counts[at + 1] / n)} at {high:.3g}"
            problems.append(f"accuracy rises {told}")
    left = counts[-1]
    if wilson(left, n)[0] > chance:
        problems.append(f"accuracy {points(left / n)} is left at ε = {eps_values[-1]:.3g}, chance is {points(chance)}")
    if problems:
        return Finding(verdict="fail", detail="; ".join(problems), measured=measured)
    detail = f"from {points(counts[0] / n)} to {points(left / n)}, chance is {points(chance)}"
    return Finding(verdict="pass", detail=detail, measured=measured)
