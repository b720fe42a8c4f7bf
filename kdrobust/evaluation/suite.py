"""Running a suite of attacks: clean predictions, every attack on what was right, the worst case of each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.errors import AttackError
from kdrobust.evaluation.checks import CheckSettings, run_checks
from kdrobust.evaluation.outcome import AttackOutcome, Evaluation
from kdrobust.evaluation.predict import eval_mode, predict, snapshot, to_unit, what_changed
from kdrobust.randomness import address

#: Called with (what is being done, samples done, samples to do).
Progress = Callable[[str, int, int], None]


class Attack(Protocol):
    """What a suite asks of an attack."""

    def run(self, model: Any, inputs: Tensor, labels: Tensor, *, keys: Tensor | None, seed: int) -> Any:
        """Attack a batch; returns `adversarial`, `goal_start`, `goal_end` and `fooled`, see `kdrobust.attacks`."""

    def describe(self) -> dict[str, Any]:
        """Everything that decides the attack's result, as plain values."""


class ThreatModel(Protocol):
    """What a suite asks of a threat model."""

    def describe(self) -> dict[str, Any]:
        """At least `norm` and `eps`."""


def evaluate(
    model: nn.Module,
    *,
    inputs: Tensor,
    labels: Tensor,
    indices: Tensor,
    threat: ThreatModel,
    attacks: Mapping[str, Attack],
    batch_size: int,
    seed: int,
    device: torch.device | str = "cpu",
    checks: bool = True,
    settings: CheckSettings | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model without attack and under each attack.

    A sample that is wrong without attack counts as broken and is not attacked. Each attack meets all the others, so
    its own accuracy is what that attack alone would give; `Evaluation.worst_case` is the figure to report. Random
    starts are addressed by (seed, attack, sample index): batch size, order and number of processes change no verdict.
    Processes that share the work call this with `checks=False` on disjoint samples, then `merge` and `run_checks`.

    Args:
        model: inputs in [0, 1] to logits [B, K]; evaluated in eval mode, every module's mode is restored after.
        inputs: [N, *shape], uint8 or floats in [0, 1].
        labels: [N] int64.
        indices: [N] int64, each sample's place in its split.
        threat: the threat model the evaluation is about.
        attacks: by the name they are reported under.
        batch_size: samples attacked at once.
        seed: address of the attacks' random starts.
        device: where to compute.
        checks: run the trust checks too.
        settings: how much the trust checks may look at.
        progress: told after every batch.

    Raises:
        AttackError: inputs or a model no attack can be run on honestly.
        ValueError: lengths that differ, a batch size below 1, an attack called `clean`, `worst_case` or like a field.
    """
    _check_arguments(inputs, labels, indices, attacks, batch_size)
    order = torch.argsort(indices.cpu(), stable=True)
    inputs, labels, indices = inputs[order], labels[order], indices[order]
    model.to(device)
    before = snapshot(model)
    with eval_mode(model):
        clean = _clean_verdicts(model, inputs, labels, device=device, batch_size=batch_size, progress=progress)
        outcomes = {
            name: _attack_all(
                name,
                attack,
                model,
                inputs=inputs,
                labels=labels,
                indices=indices,
                clean=clean,
                batch_size=batch_size,
                seed=address(seed, f"evaluation/{name}"),
                device=device,
                progress=progress,
            )
            for name, attack in attacks.items()
        }
        side_effects = what_changed(model, before)
    evaluation = Evaluation(
        indices=indices.cpu().numpy().astype(np.int64),
        labels=labels.cpu().numpy().astype(np.int64),
        clean=clean.numpy(),
        attacks=outcomes,
        threat=dict(threat.describe()),
        seed=seed,
        batch_size=batch_size,
        device=str(device),
        side_effects=side_effects,
    )
    if not checks:
        return evaluation
    verdicts = run_checks(
        evaluation,
        model,
        inputs=inputs,
        labels=labels,
        indices=indices,
        device=device,
        settings=settings,
        progress=progress,
    )
    return evaluation.with_checks(verdicts)


def _check_arguments(
    inputs: Tensor, labels: Tensor, indices: Tensor, attacks: Mapping[str, Attack], batch_size: int
) -> None:
    if not len(inputs) == len(labels) == len(indices):
        raise ValueError(f"{len(inputs)} inputs, {len(labels)} labels and {len(indices)} indices: expected as many of each")
    if len(torch.unique(indices)) < len(indices):
        raise ValueError("indices: a sample appears more than once")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    taken = sorted(set(attacks) & {"indices", "labels", "clean", "worst_case"})
    if taken:
        raise ValueError(f"an attack cannot be called {taken[0]!r}; that name is a column of the results")


def _clean_verdicts(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    device: torch.device | str,
    batch_size: int,
    progress: Progress | None,
) -> Tensor:
    verdicts = torch.zeros(len(labels), dtype=torch.bool)
    # no gradients are kept, so much more fits at once than in an attack
    size = max(batch_size, 1000)
    for start in range(0, len(labels), size):
        logits = predict(model, to_unit(inputs[start : start + size], device))
        if logits.dim() != 2 or len(logits) != len(labels[start : start + size]):
            raise AttackError(f"model: expected logits of shape [B, K], got {tuple(logits.shape)}")
        verdicts[start : start + size] = logits.argmax(dim=1).cpu() == labels[start : start + size].cpu()
        if progress is not None:
            progress("clean", min(start + size, len(labels)), len(labels))
    return verdicts


def _attack_all(
    name: str,
    attack: Attack,
    model: nn.Module,
    *,
    inputs: Tensor,
    labels: Tensor,
    indices: Tensor,
    clean: Tensor,
    batch_size: int,
    seed: int,
    device: torch.device | str,
    progress: Progress | None,
) -> AttackOutcome:
    started = time.perf_counter()
    spec = dict(attack.describe())
    count = len(labels)
    correct, disputed = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    floats = {key: np.full(count, np.nan, dtype=np.float32) for key in ("goal_start", "goal_end", "distance", "outside")}
    standing = torch.nonzero(clean).flatten()
    norm = str(spec.get("threat", {}).get("norm", "linf"))
    for start in range(0, len(standing), batch_size):
        rows = standing[start : start + batch_size]
        x, y = to_unit(inputs[rows], device), labels[rows].to(device)
        result = attack.run(model, x, y, keys=indices[rows].to(device), seed=seed)
        again = predict(model, result.adversarial).argmax(dim=1) != y
        fooled = result.fooled.to(again.device)
        at = rows.numpy()
        correct[at] = (~(fooled | again)).cpu().numpy()
        disputed[at] = (fooled != again).cpu().numpy()
        floats["goal_start"][at] = _float(result.goal_start)
        floats["goal_end"][at] = _float(result.goal_end)
        floats["distance"][at] = _float(_norm(result.adversarial.double() - x.double(), norm))
        beyond = torch.maximum(-result.adversarial, result.adversarial - 1.0).flatten(1).amax(dim=1)
        floats["outside"][at] = _float(beyond.clamp(min=0.0))
        if progress is not None:
            progress(name, min(start + batch_size, len(standing)), len(standing))
    return AttackOutcome(
        spec=spec, correct=correct, disputed=disputed, seconds=time.perf_counter() - started, **floats
    )


def _float(values: Tensor) -> Any:
    return values.detach().float().cpu().numpy()


def _norm(difference: Tensor, norm: str) -> Tensor:
    flat = difference.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1)
