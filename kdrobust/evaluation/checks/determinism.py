"""S11: the same input gives the same output, alone or in company."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.evaluation.checks.probe import Finding, Probe, trust_check
from kdrobust.evaluation.predict import predict
from kdrobust.randomness import generator

#: Relative differences of logits that rounding cannot explain: between passes, and between batch sizes.
REPEAT_LIMIT, BATCH_LIMIT = 1e-4, 1e-3


def _relative(a: Tensor, b: Tensor) -> float:
    difference = (a - b).abs().amax(dim=1) / a.abs().amax(dim=1).clamp(min=1e-12)
    return float(torch.nan_to_num(difference, nan=torch.inf).max())


@trust_check(
    "S11",
    "determinism",
    "Repeated forward passes, a pass in another order, and passes one sample at a time. Fails where logits differ by "
    "more than 1e-4 of their size (1e-3 between orders and batch sizes) or repeated predictions flip.",
    cost="6 forward passes a sample, and 16 passes of one sample",
)
def determinism(probe: Probe) -> Finding:
    """S11: a random model needs attacks on its expectation; one that depends on its batch has no verdict a sample."""
    rows = probe.pick(most=probe.batch_size)
    if not len(rows):
        return Finding(verdict="skipped", detail="no samples")
    inputs, _, _ = probe.batch(rows)
    first = predict(probe.model, inputs)
    repeats = [predict(probe.model, inputs) for _ in range(probe.settings.forwards - 1)]
    repeated = max((_relative(first, again) for again in repeats), default=0.0)
    flips = max((int((first.argmax(1) != again.argmax(1)).sum()) for again in repeats), default=0)
    order = torch.randperm(len(rows), generator=generator(probe.evaluation.seed, "check/order"))
    shuffled = predict(probe.model, inputs[order])
    reordered = _relative(first[order], shuffled)
    few = min(probe.settings.alone, len(rows))
    alone = torch.cat([predict(probe.model, inputs[row : row + 1]) for row in range(few)])
    apart = _relative(first[:few], alone)
    changed = int((first[:few].argmax(1) != alone.argmax(1)).sum())
    measured = {
        "passes": probe.settings.forwards,
        "relative_difference": repeated,
        "flips": flips,
        "relative_difference_reordered": reordered,
        "relative_difference_alone": apart,
        "flips_alone": changed,
    }
    if repeated > REPEAT_LIMIT or flips:
        detail = f"randomised: logits of two passes differ by {repeated:.2g} of their size, {flips} predictions flip"
        return Finding(verdict="fail", detail=f"{detail}; attack its expectation (EOT)", measured=measured)
    if max(apart, reordered) > BATCH_LIMIT:
        detail = (
            f"logits depend on the batch: alone they differ by {apart:.2g} of their size ({changed} of {few} "
            f"predictions), in another order by {reordered:.2g}"
        )
        return Finding(verdict="fail", detail=detail, measured=measured)
    return Finding(verdict="pass", detail="same input, same output", measured=measured)
