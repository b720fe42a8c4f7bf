"""What an evaluation found, sample by sample; every figure is a sum over these arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdrobust.randomness import address

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Verdict = Literal["pass", "warn", "fail", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The verdict of one trust check.

    Attributes:
        id: its number in the list of checks, e.g. `"S1"`.
        name: a few words.
        definition: what is measured and when it fails.
        verdict: `fail` makes the evaluation's figures unreliable, `warn` does not; `skipped`: nothing to judge by.
        detail: one line about this model.
        measured: the numbers behind the verdict.
    """

    id: str
    name: str
    definition: str
    verdict: Verdict
    detail: str
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """One attack on every sample. Samples that were wrong without any attack were not attacked: NaN, and not correct.

    Attributes:
        spec: the attack's own description.
        correct: [N] bool, still classified correctly.
        goal_start: [N] the goal where the attack began.
        goal_end: [N] the goal at the returned x'.
        distance: [N] ‖x' - x‖ in the attack's norm.
        outside: [N] how far x' leaves the box of valid values; 0 inside.
        disputed: [N] bool, the attack and a second look at x' disagree about success; counted as broken.
        seconds: wall time, summed over processes.
        extra: further numbers a sample by name, each [N] float32, NaN where not attacked: the model's answer to x'
            (`predicted`, `confidence`, `nll`), queries asked ...
        notes: what the attack itself warned of.
    """

    spec: dict[str, Any]
    correct: Bools
    goal_start: Floats
    goal_end: Floats
    distance: Floats
    outside: Floats
    disputed: Bools
    seconds: float = 0.0
    extra: Mapping[str, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def minimum_norm(self) -> bool:
        """Whether the attack looks for the nearest adversarial example instead of staying in the ε-ball."""
        return bool(self.spec.get("minimum_norm", False))

    @property
    def norm(self) -> str:
        """The norm of the attack's own threat model."""
        return str(self.spec.get("threat", {}).get("norm", "linf"))

    @property
    def kind(self) -> tuple[str, bool]:
        """What its threat model's ε measures: the norm, and whether relative to each sample's own."""
        return self.norm, bool(self.spec.get("threat", {}).get("relative", False))

    @property
    def eps(self) -> float:
        """Radius of the attack's own threat model; infinite if it does not say."""
        return float(self.spec.get("threat", {}).get("eps", np.inf))

    @property
    def steps(self) -> int | None:
        """Gradient steps, None for an attack that does not say."""
        steps = self.spec.get("steps")
        return None if steps is None else int(steps)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation of N samples.

    Attributes:
        indices: [N] int64, each sample's place in its split, ascending.
        labels: [N] int64.
        clean: [N] bool, classified correctly without attack.
        attacks: outcome by the attack's name, in the order they ran.
        threat: description of the threat model the evaluation is about.
        seed: address of the attacks' random starts.
        batch_size: samples a batch; the verdicts do not depend on it.
        device: where it ran.
        answers: the model's answers without attack, each [N] float32: `predicted` class, its `confidence` in [0, 1],
            and the true class's negative log-likelihood `nll` in nats.
        side_effects: what the model had changed after the attacks: batch-norm buffers, training modes.
        checks: the trust checks' verdicts; empty if they were not run.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    clean: Bools
    attacks: Mapping[str, AttackOutcome]
    threat: dict[str, Any]
    seed: int
    batch_size: int
    device: str = "cpu"
    answers: Mapping[str, Floats] = field(default_factory=dict)
    side_effects: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def worst_case(self) -> Bools:
        """[N] bool: correct without attack and under each of the attacks."""
        correct = self.clean.copy()
        for outcome in self.attacks.values():
            correct &= outcome.correct
        return correct

    @property
    def reasons(self) -> list[str]:
        """Why the figures are not to be trusted: one line for each failed check."""
        return [f"{check.id} {check.name}: {check.detail}" for check in self.checks if check.verdict == "fail"]

    @property
    def unreliable(self) -> bool:
        """Whether a trust check failed."""
        return bool(self.reasons)

    def with_checks(self, checks: Sequence[Check]) -> Evaluation:
        """The same evaluation with these verdicts."""
        return replace(self, checks=tuple(checks))


def attack_seed(seed: int, name: str) -> int:
    """The address of the random draws of the attack of that name."""
    return address(seed, f"evaluation/{name}")


#: Fields of an outcome that are not one value a sample.
_SHARED = ("spec", "seconds", "extra", "notes")


def _column(numbers: Mapping[str, Floats], key: str, n: int) -> Floats:
    return numbers.get(key, np.full(n, np.nan, dtype=np.float32))


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Put together what several processes found on disjoint samples.

    Trust checks judge the whole, so the merged evaluation has none: run `run_checks` on it.

    Args:
        evaluations: parts with the same attacks, threat and seed; a part may be empty.

    Raises:
        ValueError: no part, parts that differ in what they ran, or a sample in two parts.
    """
    if not evaluations:
        raise ValueError("nothing to merge")
    first = evaluations[0]
    for part in evaluations[1:]:
        same = (part.threat, part.seed, {name: outcome.spec for name, outcome in part.attacks.items()})
        if same != (first.threat, first.seed, {name: outcome.spec for name, outcome in first.attacks.items()}):
            raise ValueError("cannot merge evaluations of different attacks, threats or seeds")
    indices = np.concatenate([part.indices for part in evaluations])
    order = np.argsort(indices, kind="stable")
    repeated = indices[order][1:][np.diff(indices[order]) == 0]
    if len(repeated):
        raise ValueError(f"sample {int(repeated[0])} was evaluated more than once ({len(repeated)} such samples)")

    def together(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(arrays)[order]

    def outcome_of(name: str) -> AttackOutcome:
        parts = [part.attacks[name] for part in evaluations]
        per_sample = [entry.name for entry in fields(AttackOutcome) if entry.name not in _SHARED]
        arrays = {key: together([getattr(part, key) for part in parts]) for key in per_sample}
        # a part without samples names no extra numbers
        extra = {
            key: together([_column(part.extra, key, len(part.correct)) for part in parts])
            for key in dict.fromkeys(key for part in parts for key in part.extra)
        }
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        seconds = sum(part.seconds for part in parts)
        return AttackOutcome(spec=parts[0].spec, seconds=seconds, extra=extra, notes=notes, **arrays)

    return replace(
        first,
        indices=indices[order],
        labels=together([part.labels for part in evaluations]),
        clean=together([part.clean for part in evaluations]),
        attacks={name: outcome_of(name) for name in first.attacks},
        answers={
            key: together([_column(part.answers, key, len(part)) for part in evaluations])
            for key in dict.fromkeys(key for part in evaluations for key in part.answers)
        },
        side_effects=tuple(dict.fromkeys(effect for part in evaluations for effect in part.side_effects)),
        checks=(),
    )
