"""What a trust check works with, and the list of all checks: a new one is one function under `@trust_check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks import Threat
from kdrobust.evaluation.checks.settings import CheckSettings
from kdrobust.evaluation.intervals import paired_error
from kdrobust.evaluation.outcome import AttackOutcome, Bools, Evaluation, Verdict
from kdrobust.evaluation.predict import to_unit
from kdrobust.evaluation.subset import stratified
from kdrobust.randomness import address

#: Differences up to this share of the samples never count: 0.2 points.
SMALLEST_TOLERANCE = 0.002
#: Share that must be exceeded beyond doubt for an alarm where single samples prove nothing.
UNDOUBTED = 0.05


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found; see `Check` for the fields."""

    verdict: Verdict
    detail: str
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrustCheck:
    """A check as it is listed.

    Attributes:
        id: its number, e.g. `"S1"`.
        name: a few words.
        definition: what is measured and when it fails.
        severity: the worst it can say: `fail` makes figures unreliable, `warn` does not.
        cost: what it computes, in words; the settings say on how many samples.
        run: the function that does it.
    """

    id: str
    name: str
    definition: str
    severity: Literal["fail", "warn"]
    cost: str
    run: Callable[[Probe], Finding]


#: Every check, by id.
REGISTRY: dict[str, TrustCheck] = {}


def trust_check(
    id: str, name: str, definition: str, *, severity: Literal["fail", "warn"] = "fail", cost: str = "none"
) -> Callable[[Callable[[Probe], Finding]], Callable[[Probe], Finding]]:
    """Enter a function into the list of checks.

    Args:
        id: `"S"` and the check's number.
        name: a few words.
        definition: what is measured and when it fails.
        severity: the worst verdict it can give.
        cost: what it computes, in words.
    """

    def enter(function: Callable[[Probe], Finding]) -> Callable[[Probe], Finding]:
        REGISTRY[id] = TrustCheck(id=id, name=name, definition=definition, severity=severity, cost=cost, run=function)
        return function

    return enter


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A model, what was found about it, and the samples to look at again.

    Attributes:
        evaluation: the finished attacks.
        model: in eval mode.
        inputs: [N, *shape], in the evaluation's order; uint8, or floats within the threat's bounds.
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

    def radii(self, inputs: Tensor) -> float | Tensor:
        """The threat's radius around some inputs: one number, or [B] where it is relative."""
        unit = self.threat.unit(inputs)
        return float(self.threat.eps) * (unit.flatten() if isinstance(unit, Tensor) else unit)

    @property
    def batch_size(self) -> int:
        """Samples at once: no more than the evaluation's own batches hold, or a check may look at."""
        return min(self.evaluation.batch_size, self.settings.samples)

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
        """Inputs as floats, labels and sample indices of some rows, on the device."""
        labels = torch.from_numpy(self.evaluation.labels)[rows].to(self.device)
        indices = torch.from_numpy(self.evaluation.indices)[rows].to(self.device)
        return to_unit(self.inputs[rows], self.device), labels, indices

    def noisy(self, inputs: Tensor, keys: Tensor, *, seed: int) -> Tensor:
        """Inputs moved to a uniform draw from the threat's ball, clipped to its box."""
        return self.threat.random_start(inputs, "uniform", keys, seed=seed)

    def comparable(self) -> dict[str, AttackOutcome]:
        """The attacks under the evaluation's own norm and ε."""
        threat = self.threat

        def same(outcome: AttackOutcome) -> bool:
            return outcome.kind == (threat.norm, threat.relative) and abs(outcome.eps - float(threat.eps)) <= 1e-9

        return {name: outcome for name, outcome in self.evaluation.attacks.items() if same(outcome)}

    def gradient_attacks(self) -> dict[str, AttackOutcome]:
        """Of those, the ones that say how many gradient steps they take.

        One that looks for the nearest adversarial example is none of them: it does not climb inside the ball.
        """
        attacks = self.comparable().items()
        return {name: each for name, each in attacks if each.steps is not None and not each.minimum_norm}

    def black_box(self) -> dict[str, AttackOutcome]:
        """Of those, the ones that count queries and no gradient steps."""
        attacks = self.comparable().items()
        return {name: each for name, each in attacks if each.steps is None and "queries" in each.spec}

    def withstood(self) -> Bools:
        """[N] bool: right without attack and under every attack that may use gradients; nobody if there is none."""
        used = [each for name, each in self.comparable().items() if name not in self.black_box()]
        standing = self.evaluation.clean & bool(used)
        for outcome in used:
            standing = standing & outcome.correct
        return standing


def tolerance(only_first: int, only_second: int, n: int) -> float:
    """Share below which a difference says nothing: 0.2 points, or two standard errors of the paired difference."""
    return max(SMALLEST_TOLERANCE, 2.0 * paired_error(only_first, only_second, n))


def points(share: float) -> str:
    """A share as text, e.g. `12.5 %`."""
    return f"{100.0 * share:.1f} %"
