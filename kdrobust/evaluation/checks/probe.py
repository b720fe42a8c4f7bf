"""What a trust check works with, and the list of all checks: a new one is one function under `@trust_check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks import Threat
from kdrobust.evaluation.intervals import paired_error
from kdrobust.evaluation.outcome import AttackOutcome, Bools, Evaluation, Verdict
from kdrobust.evaluation.predict import to_unit
from kdrobust.evaluation.subset import stratified
from kdrobust.randomness import address

#: Differences up to this share of the samples never count: 0.2 points.
SMALLEST_TOLERANCE = 0.002


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How much the trust checks may look at; their cost grows with these, not with the evaluation.

    Attributes:
        samples: at most so many samples a check.
        noise_draws: draws of random noise a sample (S5).
        unbounded_steps: steps of the unbounded attack (S3).
        forwards: repeated forward passes (S11).
        alone: samples that are also predicted one by one (S11).
    """

    samples: int = 128
    noise_draws: int = 100
    unbounded_steps: int = 100
    forwards: int = 5
    alone: int = 16


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found; see `Check` for the fields."""

    verdict: Verdict
    detail: str
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrustCheck:
    """A check as it is listed: its number, name, definition, and the function that does it."""

    id: str
    name: str
    definition: str
    run: Callable[[Probe], Finding]


#: Every check, by id.
REGISTRY: dict[str, TrustCheck] = {}


def trust_check(
    id: str, name: str, definition: str
) -> Callable[[Callable[[Probe], Finding]], Callable[[Probe], Finding]]:
    """Enter a function into the list of checks.

    Args:
        id: `"S"` and the check's number.
        name: a few words.
        definition: what is measured and when it fails.
    """

    def enter(function: Callable[[Probe], Finding]) -> Callable[[Probe], Finding]:
        REGISTRY[id] = TrustCheck(id=id, name=name, definition=definition, run=function)
        return function

    return enter


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A model, what was found about it, and the samples to look at again.

    Attributes:
        evaluation: the finished attacks.
        model: in eval mode.
        inputs: [N, *shape], in the evaluation's order; uint8 or floats in [0, 1].
        device: where to compute.
        settings: how much may be looked at.
    """

    evaluation: Evaluation
    model: nn.Module
    inputs: Tensor
    device: torch.device | str
    settings: CheckSettings

    @property
    def threat(self) -> Threat:
        """The threat model the evaluation is about."""
        return Threat(**self.evaluation.threat)

    def seed(self, purpose: str, *where: int) -> int:
        """The address of a check's draws."""
        return address(self.evaluation.seed, f"check/{purpose}", *where)

    def pick(self, among: Bools | None = None, *, most: int | None = None) -> Tensor:
        """Rows of at most `settings.samples` samples, classes in proportion.

        Args:
            among: [N] bool, who may be picked; None: everybody.
            most: a smaller limit.
        """
        rows = np.arange(len(self.evaluation)) if among is None else np.flatnonzero(among)
        limit = self.settings.samples if most is None else min(most, self.settings.samples)
        chosen = stratified(torch.from_numpy(self.evaluation.labels[rows]), limit, seed=self.seed("pick"))
        return torch.from_numpy(rows)[chosen]

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs in [0, 1], labels and sample indices of some rows, on the device."""
        labels = torch.from_numpy(self.evaluation.labels)[rows].to(self.device)
        indices = torch.from_numpy(self.evaluation.indices)[rows].to(self.device)
        return to_unit(self.inputs[rows], self.device), labels, indices

    def noisy(self, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
        """Inputs moved to a uniform draw from the threat's ball, clipped to [0, 1]."""
        return self.threat.random_start(inputs, "uniform", keys, seed=seed)

    def gradient_attacks(self) -> dict[str, AttackOutcome]:
        """The attacks that say how many gradient steps they take, under the evaluation's own threat."""
        threat = self.threat

        def comparable(outcome: AttackOutcome) -> bool:
            return outcome.norm == threat.norm and abs(outcome.eps - threat.radius) <= 1e-9

        attacks = self.evaluation.attacks.items()
        return {name: outcome for name, outcome in attacks if outcome.steps is not None and comparable(outcome)}


def tolerance(only_first: int, only_second: int, n: int) -> float:
    """Share below which a difference says nothing: 0.2 points, or two standard errors of the paired difference."""
    return max(SMALLEST_TOLERANCE, 2.0 * paired_error(only_first, only_second, n))


def points(share: float) -> str:
    """A share as text, e.g. `12.5 %`."""
    return f"{100.0 * share:.1f} %"
