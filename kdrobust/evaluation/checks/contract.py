"""S0: the attack kept its promises, and model and data are such that it could be run honestly."""

from __future__ import annotations

import math

import numpy as np
import torch

from kdrobust.evaluation.checks.probe import Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import predict_all

#: Rounding a projection may leave.
SLACK = 1e-6
#: Inputs that fill no more than this were scaled wrongly.
NARROW = 0.02
#: With fewer samples nothing is said about chance.
FEW = 30


@trust_check(
    "S0",
    "contract",
    "Inputs are finite, in the box of valid values ([0, 1] for pixels) and fill more than 2 % of it; x' is finite, in "
    "the box and in the ε-ball (+1e-6; not asked of attacks that look for the nearest adversarial example); the model "
    "gives finite logits, not probabilities, repeats its clean verdicts, stays in eval mode and keeps its buffers. Any "
    "violation fails; a clean accuracy no better than chance warns.",
    cost="1 forward pass a sample",
)
def contract(probe: Probe) -> Finding:
    """S0: violations of what every figure takes for granted."""
    evaluation = probe.evaluation
    problems = [*_of_inputs(probe), *evaluation.side_effects]
    farthest, outermost = 0.0, 0.0
    for name, outcome in evaluation.attacks.items():
        distance, outside = outcome.distance[evaluation.clean], outcome.outside[evaluation.clean]
        if not np.isfinite(distance).all():
            problems.append(f"{name} returned inputs that are not finite")
            continue
        outermost = max(outermost, float(outside.max(initial=0.0)))
        if outside.max(initial=0.0) > SLACK:
            problems.append(f"{name} left {box_text(probe)} by {outside.max():.3g}")
        if outcome.minimum_norm:
            continue
        farthest = max(farthest, float(distance.max(initial=0.0)) - outcome.eps)
        if distance.max(initial=0.0) > outcome.eps + SLACK:
            problems.append(f"{name} left the ε-ball: distance {distance.max():.6g} for ε {outcome.eps:.6g}")
    rows = probe.pick()
    inputs, labels, _ = probe.batch(rows)
    logits = predict_all(probe.model, inputs, probe.batch_size)
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
    warned = [f"{flips} clean verdicts changed when repeated"] if flips else []
    hits, n = int(evaluation.clean.sum()), len(evaluation)
    if n >= FEW and wilson(hits, n)[0] <= 1.0 / logits.shape[1]:
        warned.append(
            f"clean accuracy {points(hits / n)} is no better than chance: other labels or scaling than learnt?"
        )
    if warned:
        return Finding(verdict="warn", detail="; ".join(warned), measured=measured)
    return Finding(verdict="pass", detail="inputs, outputs and modes as they should be", measured=measured)


def box_text(probe: Probe) -> str:
    """The range of valid values as text, e.g. `[0, 1]`."""
    return f"[{probe.threat.box[0]:g}, {probe.threat.box[1]:g}]"


def _of_inputs(probe: Probe) -> list[str]:
    if not probe.inputs.numel():
        return []
    scale = 255.0 if probe.inputs.dtype == torch.uint8 else 1.0
    low, high = float(probe.inputs.min()) / scale, float(probe.inputs.max()) / scale
    if not (math.isfinite(low) and math.isfinite(high)):
        return ["inputs are not finite"]
    first, last = probe.threat.box
    if low < first - SLACK or high > last + SLACK:
        return [f"inputs lie in [{low:.4g}, {high:.4g}], not in {box_text(probe)}: normalise inside the model"]
    if high - low < NARROW * (last - first):
        return [f"inputs fill [{low:.4g}, {high:.4g}] of {box_text(probe)} only: were they divided by 255 twice?"]
    return []
