"""S1, S3, S5, S9: the attacks are as strong as attacks must be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kdrobust.evaluation.checks.climb import climb
from kdrobust.evaluation.checks.probe import UNDOUBTED, Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import predict_all


@trust_check(
    "S1",
    "iterative not weaker than one-step",
    "Accuracy under an iterative attack minus that under a one-step attack, on the same samples. Fails above "
    "max(0.2 points, two standard errors of the paired difference); warns above 0.",
)
def iterative_beats_one_step(probe: Probe) -> Finding:
    """S1: more steps must not make an attack weaker."""
    attacks = probe.gradient_attacks()
    pairs = [(one, many) for one in attacks for many in attacks if attacks[one].steps == 1 and attacks[many].steps != 1]
    if not pairs:
        return Finding(verdict="skipped", detail="needs a one-step and an iterative attack")
    n = len(probe.evaluation)
    measured: dict[str, dict[str, int]] = {}
    failed, warned = [], []
    for one, many in pairs:
        by_one, by_many = ~attacks[one].correct, ~attacks[many].correct
        only_one, only_many = int((by_one & ~by_many).sum()), int((by_many & ~by_one).sum())
        measured[f"{one} and {many}"] = {f"only {one}": only_one, f"only {many}": only_many}
        told = f"{one} broke {only_one} of {n} samples that {many} did not, {many} only {only_many} others"
        if only_one - only_many > n * tolerance(only_one, only_many, n):
            failed.append(told)
        elif only_one > only_many:
            warned.append(told)
    return _verdict(failed, warned, "iterative attacks broke what one-step attacks broke", measured)


def _verdict(failed: list[str], warned: list[str], well: str, measured: dict[str, Any]) -> Finding:
    if failed:
        return Finding(verdict="fail", detail="; ".join(failed), measured=measured)
    if warned:
        return Finding(verdict="warn", detail="; ".join(warned), measured=measured)
    return Finding(verdict="pass", detail=well, measured=measured)


@trust_check(
    "S3",
    "unbounded attack breaks everything",
    "Accuracy under PGD with an ε that reaches any input (ℓ∞: the width of the box, 1 for pixels; ℓ2: its diameter, √d "
    "times that); models with one "
    "answer are left out. Fails above max(0.2 points, two standard errors), warns above 0.",
    cost="up to 100 gradients a sample, until it is broken",
)
def unbounded(probe: Probe) -> Finding:
    """S3: with every image in reach, no accuracy can remain; what remains is gradient masking."""
    rows = probe.pick()
    n = len(rows)
    if n == 0:
        return Finding(verdict="skipped", detail="no samples")
    inputs, labels, _ = probe.batch(rows)
    norm, box = probe.threat.norm, probe.threat.box
    eps = (box[1] - box[0]) * (math.sqrt(inputs[0].numel()) if norm == "l2" else 1.0)
    steps = probe.settings.unbounded_steps
    answers = predict_all(probe.model, inputs, probe.batch_size).argmax(dim=1)
    if bool((answers == answers[0]).all()):
        return Finding(verdict="skipped", detail="the model gives one answer to everything: nothing can change it")
    right = answers == labels
    # from x itself: a random start this wide would be a blind search that hides missing gradients
    path = climb(
        probe.model,
        inputs[right],
        labels[right],
        norm=norm,
        eps=eps,
        box=box,
        steps=steps,
        stride=2.5 / steps,
        batch_size=probe.batch_size,
    )
    survivors = int((~path.broken).sum())
    share = survivors / n
    measured = {"eps": eps, "steps": steps, "samples": n, "survivors": survivors, "accuracy": share}
    detail = f"accuracy {points(share)} under ε = {eps:.3g} ({n} samples, {steps} steps)"
    if survivors > n * tolerance(survivors, 0, n):
        return Finding(verdict="fail", detail=f"{detail}: gradients are masked", measured=measured)
    return Finding(verdict="warn" if survivors else "pass", detail=detail, measured=measured)


@trust_check(
    "S5",
    "random noise far weaker than gradients",
    "Survivors of every gradient attack that the worst of n uniform draws from the ε-ball breaks. Warns at the first, "
    "fails where their share is above 5 % beyond doubt (lower end of the 95 % Wilson interval).",
    cost="up to 100 forward passes a sample, until it is broken",
)
def random_noise(probe: Probe) -> Finding:
    """S5: whoever withstands gradients must withstand blind noise."""
    rows = probe.pick(probe.withstood())
    n = len(rows)
    if n == 0:
        return Finding(verdict="skipped", detail="needs survivors of a gradient attack")
    inputs, labels, keys = probe.batch(rows)
    draws = probe.settings.noise_draws
    for draw in range(draws):
        if not len(labels):
            break
        noisy = probe.noisy(inputs, keys, seed=probe.seed("noise", draw))
        right = predict_all(probe.model, noisy, probe.batch_size).argmax(dim=1) == labels
        inputs, labels, keys = inputs[right], labels[right], keys[right]
    broken = n - len(labels)
    measured = {"survivors": n, "draws": draws, "broken": broken}
    detail = f"{broken} of {n} survivors of gradients broken by the worst of {draws} draws"
    # honest models trained at a large ε lose up to 3 % of PGD-20's survivors to noise; masked ones a third and more
    if wilson(broken, n)[0] > UNDOUBTED:
        return Finding(verdict="fail", detail=detail, measured=measured)
    return Finding(verdict="warn" if broken else "pass", detail=detail, measured=measured)


@trust_check(
    "S9",
    "the goal ascends",
    "Survivors of an iterative attack whose goal ended below where it began. Warns at the first, fails where their "
    "share is above 5 % beyond doubt (lower end of the 95 % Wilson interval).",
)
def goal_ascends(probe: Probe) -> Finding:
    """S9: an attack that climbs must arrive higher than it began."""
    measured: dict[str, dict[str, int]] = {}
    failed, warned = [], []
    for name, outcome in probe.gradient_attacks().items():
        survivors = outcome.correct & np.isfinite(outcome.goal_start) & np.isfinite(outcome.goal_end)
        n = int(survivors.sum())
        if outcome.steps == 1 or n == 0:
            continue
        start, end = outcome.goal_start[survivors], outcome.goal_end[survivors]
        descended = int((end < start - 1e-6 * np.maximum(1.0, np.abs(start))).sum())
        measured[name] = {"survivors": n, "descended": descended}
        if wilson(descended, n)[0] > UNDOUBTED:
            failed.append(f"{name}: the goal fell on {descended} of {n} survivors ({points(descended / n)})")
        elif descended:
            warned.append(f"{name}: the goal fell on {descended} of {n} survivors")
    if not measured:
        return Finding(verdict="skipped", detail="no survivors of an iterative attack")
    return _verdict(failed, warned, "every survivor's goal rose", measured)
