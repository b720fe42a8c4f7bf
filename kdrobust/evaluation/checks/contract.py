"""S0 and S13: the attack kept its promises, and the model is one that can be attacked honestly."""

from __future__ import annotations

import numpy as np

from kdrobust.evaluation.checks.probe import Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.predict import predict

#: Rounding a projection may leave.
SLACK = 1e-6


@trust_check(
    "S0",
    "contract",
    "x' is finite, in [0, 1] and in the ε-ball (+1e-6); the model gives finite logits, not probabilities, repeats its "
    "clean verdicts, stays in eval mode and keeps its buffers. Any violation fails.",
)
def contract(probe: Probe) -> Finding:
    """S0: violations of what every figure takes for granted."""
    evaluation = probe.evaluation
    problems = list(evaluation.side_effects)
    farthest, outermost = 0.0, 0.0
    for name, outcome in evaluation.attacks.items():
        distance, outside = outcome.distance[evaluation.clean], outcome.outside[evaluation.clean]
        if not np.isfinite(distance).all():
            problems.append(f"{name} returned inputs that are not finite")
            continue
        farthest = max(farthest, float(distance.max(initial=0.0)) - outcome.eps)
        outermost = max(outermost, float(outside.max(initial=0.0)))
        if distance.max(initial=0.0) > outcome.eps + SLACK:
            problems.append(f"{name} left the ε-ball: distance {distance.max():.6g} for ε {outcome.eps:.6g}")
        if outside.max(initial=0.0) > SLACK:
            problems.append(f"{name} left [0, 1] by {outside.max():.3g}")
    rows = probe.pick()
    inputs, labels, _ = probe.batch(rows)
    logits = predict(probe.model, inputs)
    if not bool(logits.isfinite().all()):
        problems.append("the model's outputs are not finite")
    elif len(logits) and bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1.0).abs() < 1e-4).all()):
        problems.append("the model's outputs are probabilities; return logits, without softmax")
    verdicts = (logits.argmax(dim=1) == labels).cpu().numpy()
    flips = int((verdicts != evaluation.clean[rows.numpy()]).sum())
    flipped = flips > len(rows) * tolerance(flips, 0, len(rows))
    if flipped:
        problems.append(f"{flips} of {len(rows)} clean verdicts changed when repeated")
    measured = {"clean_flips": flips, "samples": len(rows), "beyond_eps": farthest, "outside_box": outermost}
    if problems:
        return Finding(verdict="fail", detail="; ".join(problems), measured=measured)
    if flips:
        return Finding(verdict="warn", detail=f"{flips} clean verdicts changed when repeated", measured=measured)
    return Finding(verdict="pass", detail="inputs, outputs and modes as they should be", measured=measured)


@trust_check(
    "S13",
    "silent success",
    "A second look at every x' agrees with the attack about who was broken. Fails when they disagree on more than "
    "the tolerance; samples in dispute count as broken.",
)
def silent_success(probe: Probe) -> Finding:
    """S13: successes that were seen on the way but not returned, or returned but not seen."""
    clean = probe.evaluation.clean
    n = int(clean.sum())
    if not probe.evaluation.attacks or n == 0:
        return Finding(verdict="skipped", detail="nothing was attacked")
    counts = {name: int(outcome.disputed[clean].sum()) for name, outcome in probe.evaluation.attacks.items()}
    name, worst = max(counts.items(), key=lambda item: item[1])
    if worst == 0:
        return Finding(verdict="pass", detail="every success was returned", measured={"disputed": counts})
    failed = worst > n * tolerance(worst, 0, n)
    detail = f"{name} and a second look disagree on {worst} of {n} samples ({points(worst / n)})"
    return Finding(verdict="fail" if failed else "warn", detail=detail, measured={"disputed": counts})
