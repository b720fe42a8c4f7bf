"""Running every trust check on a finished evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdrobust.errors import KdrobustError
from kdrobust.evaluation.checks.probe import REGISTRY, Finding, Probe
from kdrobust.evaluation.checks.settings import CheckSettings
from kdrobust.evaluation.outcome import Check, Evaluation
from kdrobust.evaluation.predict import eval_mode


def run_checks(
    evaluation: Evaluation,
    model: nn.Module,
    *,
    inputs: Tensor,
    labels: Tensor,
    indices: Tensor,
    device: torch.device | str = "cpu",
    settings: CheckSettings | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Check, ...]:
    """Judge an evaluation by every check there is, in the order of their numbers.

    Args:
        evaluation: what `evaluate` or `merge` returned.
        model: the model it is about.
        inputs: [N, *shape], the evaluated samples, uint8 or floats in [0, 1].
        labels: [N] int64.
        indices: [N] int64; the same samples as `evaluation.indices`, in any order.
        device: where to compute.
        settings: how much may be looked at.
        progress: told after every check.

    Returns:
        One verdict a check. A check that cannot run at all fails with the reason.

    Raises:
        ValueError: the samples are not those of the evaluation.
    """
    order = torch.argsort(indices.cpu(), stable=True)
    same = len(indices) == len(evaluation) and torch.equal(indices.cpu()[order], torch.from_numpy(evaluation.indices))
    if not same or not torch.equal(labels.cpu()[order], torch.from_numpy(evaluation.labels)):
        raise ValueError("run_checks needs exactly the samples that were evaluated")
    model.to(device)
    with torch.inference_mode(False):
        probe = Probe(
            evaluation=evaluation,
            model=model,
            inputs=inputs[order],
            device=device,
            settings=settings or CheckSettings(),
        )
        return _judge(probe, progress)


def _judge(probe: Probe, progress: Callable[[str, int, int], None] | None) -> tuple[Check, ...]:
    listed = sorted(REGISTRY.values(), key=lambda entry: int(entry.id[1:]))
    verdicts = []
    for done, entry in enumerate(listed, start=1):
        with eval_mode(probe.model):
            try:
                found = entry.run(probe)
            except (KdrobustError, RuntimeError, ValueError) as error:
                # hours of attacks are not thrown away because a model cannot bear to be looked at
                told = next(iter(str(error).strip().splitlines()), type(error).__name__)
                found = Finding(verdict="fail", detail=f"could not be run: {told}")
        verdicts.append(
            Check(
                id=entry.id,
                name=entry.name,
                definition=entry.definition,
                verdict=found.verdict,
                detail=found.detail,
                measured=found.measured,
            )
        )
        if progress is not None:
            progress("checks", done, len(listed))
    return tuple(verdicts)
