"""Running a suite of attacks: clean predictions, every attack on what was right, the worst case of each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks import check_answers
from kdrobust.errors import AttackError, keys_below
from kdrobust.evaluation.answers import answers
from kdrobust.evaluation.checks import CheckSettings, run_checks
from kdrobust.evaluation.outcome import AttackOutcome, Evaluation, Floats, attack_seed
from kdrobust.evaluation.predict import connected, eval_mode, predict, predict_all, snapshot, to_unit, what_changed
from kdrobust.evaluation.snr import signal_to_noise
from kdrobust.evaluation.store import AttackStore, PartialFile

#: How far beyond ε a float32 perturbation of length ε may come out.
ROUNDING = 1e-6

#: Called with (what is being done, samples done, samples to do).
Progress = Callable[[str, int, int], None]


class Attack(Protocol):
    """What a suite asks of an attack.

    An attack that decides itself how samples are put together has an attribute `whole = True`: it is given all of them
    at once; if it is `resumable` too, `run` takes a `partial` that keeps how far it has come. One whose description
    says `minimum_norm` returns the nearest adversarial example it found: a sample counts as broken where that lies
    within ε.
    """

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
    store: AttackStore | None = None,
) -> Evaluation:
    """Measure a model without attack and under each attack.

    A sample that is wrong without attack counts as broken and is not attacked. Each attack meets all the others, so
    its own accuracy is what that attack alone would give; `Evaluation.worst_case` is the figure to report. Random
    starts are addressed by (seed, attack, sample index): batch size, order and number of processes change no verdict.
    Processes that share the work call this with `checks=False` on disjoint samples, then `merge` and `run_checks`.

    Args:
        model: inputs to logits [B, K]; evaluated in eval mode, every module's mode is restored after.
        inputs: [N, *shape], uint8, or floats within the threats' bounds.
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
        store: where finished attacks are kept, and found again by an evaluation that goes on after a kill.

    Raises:
        AttackError: inputs or a model no attack can be run on honestly, or an attack or answers that are NaN.
        ValueError: lengths that differ, a batch size below 1, an attack called `clean`, `worst_case` or like a field.
    """
    _check_arguments(inputs, labels, indices, attacks, batch_size)
    # whatever mode the caller is in: nothing made under inference mode may enter an attack's graph
    with torch.inference_mode(False):
        order = torch.argsort(indices.cpu(), stable=True)
        samples = _Samples(inputs=inputs[order], labels=labels[order], indices=indices[order], device=device)
        tell = progress or _silent
        model.to(device)
        before = snapshot(model)
        with eval_mode(model):
            clean, answered = _clean_verdicts(model, samples, batch_size, tell)
            outcomes = {}
            for name, attack in attacks.items():
                spec = dict(attack.describe())
                kept = None if store is None else store.load(name, spec)
                if kept is not None:
                    outcomes[name] = kept
                    tell(name, len(samples), len(samples))
                    continue
                outcomes[name] = _attack_all(
                    name,
                    attack,
                    model,
                    samples,
                    clean,
                    batch_size,
                    seed=attack_seed(seed, name),
                    tell=tell,
                    partial=None if store is None else store.partial(name, spec),
                )
                if store is not None:
                    store.save(name, outcomes[name])
            side_effects = what_changed(model, before)
    evaluation = Evaluation(
        indices=samples.indices.cpu().numpy().astype(np.int64),
        labels=samples.labels.cpu().numpy().astype(np.int64),
        clean=clean.numpy(),
        attacks=outcomes,
        threat=dict(threat.describe()),
        seed=seed,
        batch_size=batch_size,
        device=str(device),
        answers=answered,
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
        progress=tell,
    )
    return evaluation.with_checks(verdicts)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    inputs: Tensor
    labels: Tensor
    indices: Tensor
    device: torch.device | str

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys = self.indices[rows].to(self.device)
        return to_unit(self.inputs[rows], self.device), self.labels[rows].to(self.device), keys


def _silent(what: str, done: int, total: int) -> None:
    pass


def _check_arguments(
    inputs: Tensor, labels: Tensor, indices: Tensor, attacks: Mapping[str, Attack], batch_size: int
) -> None:
    counts = (len(inputs), len(labels), len(indices))
    if len(set(counts)) > 1:
        raise ValueError(f"expected as many inputs, labels and indices, got {counts[0]}, {counts[1]} and {counts[2]}")
    if len(torch.unique(indices)) < len(indices):
        raise ValueError("indices: a sample appears more than once")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    taken = sorted(set(attacks) & {"indices", "labels", "clean", "worst_case"})
    if taken:
        raise ValueError(f"an attack cannot be called {taken[0]!r}; that name is a column of the results")


def _clean_verdicts(
    model: nn.Module, samples: _Samples, batch_size: int, tell: Progress
) -> tuple[Tensor, dict[str, Floats]]:
    verdicts, answered = torch.zeros(len(samples), dtype=torch.bool), dict[str, Floats]()
    # no gradients are kept, so much more fits at once than in an attack
    for rows in _pieces(torch.arange(len(samples)), max(batch_size, 1000)):
        inputs, labels, _ = samples.batch(rows)
        logits = predict(model, inputs)
        if logits.dim() != 2 or len(logits) != len(labels):
            raise AttackError(f"model: expected logits of shape [B, K], got {tuple(logits.shape)}")
        # of inputs that are NaN themselves check S0 speaks
        if bool(logits.isnan().any()) and bool(inputs.isfinite().all()):
            raise AttackError("the model's logits are NaN on clean inputs; check its weights")
        verdicts[rows] = (logits.argmax(dim=1) == labels).cpu()
        _note(answered, answers(logits, labels), rows, len(samples))
        tell("clean", int(rows[-1]) + 1, len(samples))
    return verdicts, answered


def _place(name: str, spec: Mapping[str, Any]) -> str:
    """Where a suite's config holds an attack; the examples of one entry of `transfer` are shown once a source."""
    source = spec.get("source", {}).get("name") if spec.get("black_box") else None
    return f"attacks.{name}" if source is None else f"transfer.{name.removesuffix(f'_from_{source}')}"


def _note(columns: dict[str, Floats], values: Mapping[str, Tensor], rows: Tensor, n: int) -> None:
    for key, found in values.items():
        column = columns.setdefault(key, np.full(n, np.nan, dtype=np.float32))
        column[rows.numpy()] = found.detach().float().cpu().numpy()


def _attack_all(
    name: str,
    attack: Attack,
    model: nn.Module,
    samples: _Samples,
    clean: Tensor,
    batch_size: int,
    *,
    seed: int,
    tell: Progress,
    partial: PartialFile | None = None,
) -> AttackOutcome:
    started = time.perf_counter()
    spec = dict(attack.describe())
    told = spec.get("threat", {})
    low, high = (float(bound) for bound in told.get("bounds", (0.0, 1.0)))
    radius = float(spec["threat"]["eps"]) if spec.get("minimum_norm") else None
    correct, disputed = np.zeros(len(samples), dtype=np.bool_), np.zeros(len(samples), dtype=np.bool_)
    names = ("goal_start", "goal_end", "distance", "outside")
    floats = {key: np.full(len(samples), np.nan, dtype=np.float32) for key in names}
    standing = torch.nonzero(clean).flatten()
    if len(standing):
        model = connected(model, samples.batch(standing[:2])[0])
    done, extra, notes = 0, dict[str, Floats](), dict[str, None]()
    size = max(1, len(standing)) if getattr(attack, "whole", False) else batch_size
    # only an attack that meets all samples at once can go on in the middle
    further: dict[str, Any] = {"partial": partial} if getattr(attack, "resumable", False) and partial else {}
    for rows in _pieces(standing, size):
        inputs, labels, keys = samples.batch(rows)
        with keys_below(f"evaluation.{_place(name, spec)}"):
            result = attack.run(model, inputs, labels, keys=keys, seed=seed, **further)
        adversarial, fooled = result.adversarial, result.fooled.to(labels.device)
        logits = predict_all(model, adversarial, batch_size)
        check_answers(adversarial, logits, attack=f"attack {name}")
        again = logits.argmax(dim=1) != labels
        at = rows.numpy()
        away = _distance(adversarial.double(), inputs.double(), told)
        broken = fooled | again
        if radius is not None:
            broken &= away <= radius + ROUNDING
        correct[at] = (~broken).cpu().numpy()
        disputed[at] = (fooled != again).cpu().numpy()
        beyond = torch.maximum(low - adversarial, adversarial - high).flatten(1).amax(dim=1).clamp(min=0.0)
        figures = (result.goal_start, result.goal_end, away, beyond)
        for key, values in zip(names, figures, strict=True):
            floats[key][at] = values.detach().float().cpu().numpy()
        noise = {"snr_db": signal_to_noise(adversarial, inputs)} if low < 0.0 < high else {}
        _note(extra, {**result.extra, **answers(logits, labels), **noise}, rows, len(samples))
        notes |= dict.fromkeys(result.notes)
        done += len(rows)
        tell(name, done, len(standing))
    seconds = time.perf_counter() - started
    return AttackOutcome(
        spec=spec, correct=correct, disputed=disputed, seconds=seconds, extra=extra, notes=tuple(notes), **floats
    )


def _pieces(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _distance(adversarial: Tensor, inputs: Tensor, threat: Mapping[str, Any]) -> Tensor:
    flat = (adversarial - inputs).flatten(1)
    if threat.get("norm") != "l2":
        return flat.abs().amax(dim=1)
    length: Tensor = flat.norm(dim=1)
    if threat.get("relative"):
        length /= inputs.flatten(1).norm(dim=1).clamp(min=1e-12)
    return length
