"""Auto-PGD: gradient ascent that sets its own step size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.ascent import Ascent, Climber
from kdrobust.attacks.contract import Model
from kdrobust.attacks.goals import (
    NEED_TARGETS,
    Climb,
    Target,
    defined_goal,
    describe_goal,
    find_goal,
    likeliest_others,
    normal_tensor,
)
from kdrobust.attacks.kernels import PRECISIONS
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.samples import EvaluationAttack, Findings, prepared
from kdrobust.attacks.settings import choice, count, number
from kdrobust.attacks.threat import STARTS, Threat, per_sample
from kdrobust.losses.numerics import lift
from kdrobust.randomness import address


class APGD(EvaluationAttack):
    r"""Auto-PGD: ascent with momentum that halves its step and returns to the best point where it stops getting on.

    $z_{k+1} = \Pi(x_k + \eta\,\mathrm{step}(g_k))$,
    $x_{k+1} = \Pi(x_k + \alpha (z_{k+1} - x_k) + (1 - \alpha)(x_k - x_{k-1}))$ with α = 0.75 and η = 2ε at first. At
    checkpoints, after 22 % of the steps and then at intervals that shrink by 3 % down to 6 %, η is halved and the climb
    resumed at the best point if fewer than ρ of the steps since the last one went up, or if neither η nor the best
    value has changed since then. A sample already wrong without attack is returned as it is.

    Args:
        threat: norm, ε and pixel range.
        goal: a name of `kdrobust.attacks.goals.GOALS` that needs no teacher (`cross_entropy`, `dlr`, `dlr_targeted`,
            `margin`), or a function that binds to a `Target`.
        steps: number of steps >= 1.
        rho: ρ in [0, 1].
        restarts: independent starts.
        targets: how many other classes a targeted goal aims at, one after the other, the likeliest first; at most
            K - 1. Other goals do not look at it.
        start: where a restart begins, see `Threat.random_start`.
        eot: draws of the model's own noise each gradient is a mean of; 1 for deterministic models.
        compact: let a sample go as soon as it is broken. Changes no verdict; x' is then the first point that fools.
        precision: which form of the model is climbed, see `kdrobust.attacks.kernels.climbed`; what it breaks, the exact
            model confirms.

    Raises:
        UsageError: a value outside its range; names the key.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, algorithm 1. As in the authors' code, and unlike the paper, rises
    are counted in single precision, after a return to the best point against the iterate before it, and at the first
    step of all against 0. Where there are too few classes for `dlr` (3) or `dlr_targeted` (4), the margin they are a
    ratio of is climbed instead, and the result's notes say so.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        goal: str | Callable[[Target], Climb] = "cross_entropy",
        steps: int = 100,
        rho: float | str = 0.75,
        restarts: int = 1,
        targets: int = 9,
        start: str = "uniform",
        eot: int = 1,
        compact: bool = True,
        precision: str = "exact",
    ) -> None:
        self.threat = threat
        self.goal = goal
        self.steps = count("steps", steps, least=1)
        self.rho = number("rho", rho, most=1.0)
        self.restarts = count("restarts", restarts, least=1)
        self.targets = count("targets", targets, least=1)
        self.start = choice("start", start, STARTS)
        self.eot = count("eot", eot, least=1)
        self.compact = compact
        self.precision = choice("precision", precision, PRECISIONS)
        self._bind = find_goal(goal)
        self._climber = self._climber_of(self._bind)

    @property
    def targeted(self) -> bool:
        """Whether the goal aims at one class after another."""
        return self.goal in NEED_TARGETS

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
        validate: bool = True,
    ) -> AttackResult:
        """Attack a batch: x' that fools where one was found, else the point with the highest goal.

        Args:
            model: inputs to logits.
            inputs: clean x in the threat's bounds, [B, ...] floating.
            labels: true classes, [B] integers.
            keys: [B] integers that address each sample's random starts; by default its place in the batch.
            seed: address of the random starts.
            validate: check pixels, labels and clean logits first.

        Raises:
            AttackError: inputs or outputs the attack cannot be honest about.
        """
        with prepared(
            model,
            inputs,
            labels,
            keys=keys,
            seed=seed,
            threat=self.threat,
            validate=validate,
            precision=self.precision,
        ) as (samples, logits):
            aims: list[Tensor | None] = [None]
            if self.targeted:
                aims = list(likeliest_others(logits, samples.labels, self.targets).unbind(dim=1))
            climber, notes = self._climber, tuple[str, ...]()
            if (stand_in := defined_goal(self.goal, logits.shape[1])) != self.goal:
                climber = self._climber_of(find_goal(stand_in))
                notes = (f"{self.goal} is not defined for {logits.shape[1]} classes: climbed {stand_in}",)
            value = samples.aimed(aims[0]).bind(climber.bind)(samples.inputs, logits).detach()
            findings = Findings.clean(samples, logits, value)
            for restart in range(self.restarts):
                for number_of_aim, aim in enumerate(aims):
                    rows = findings.todo(compact=self.compact)
                    if not len(rows):
                        break
                    some = samples.aimed(aim).rows(rows)
                    at = address(seed, "start", restart, number_of_aim)
                    start = self.threat.random_start(some.inputs, self.start, some.keys, seed=at)
                    findings.put(rows, _answer(climber.climb(some, start, seed=at)))
            return findings.result(notes=notes)

    def climb(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        initial: Tensor,
        targets: Tensor | None = None,
        seed: int = 0,
        validate: bool = True,
    ) -> Ascent:
        """One climb from a given start, of every sample, also of those wrong from the beginning.

        Args:
            model: inputs to logits.
            inputs: clean x, [B, ...].
            labels: [B] integers.
            initial: the start, clipped to the box first, [B, ...].
            targets: wanted classes of a targeted goal, [B]; by default each sample's likeliest other one.
            seed: address of the model's noise.
            validate: as for `run`.

        Raises:
            AttackError: as for `run`.
        """
        with prepared(
            model,
            inputs,
            labels,
            keys=None,
            seed=seed,
            threat=self.threat,
            validate=validate,
            initial=initial,
            targets=targets,
            precision=self.precision,
        ) as (samples, _):
            ascent = self._climber.climb(samples, lift(normal_tensor(initial)), seed=seed)
            return replace(ascent, best=samples.answer(ascent.best), fooling=samples.answer(ascent.fooling))

    def _climber_of(self, bind: Callable[[Target], Climb]) -> Climber:
        return Climber(
            threat=self.threat, bind=bind, steps=self.steps, rho=self.rho, draws=self.eot, compact=self.compact
        )

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        described = {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "goal": describe_goal(self.goal),
            "steps": self.steps,
            "rho": self.rho,
            "restarts": self.restarts,
            "start": self.start,
            "eot": self.eot,
            "compact": self.compact,
            "precision": self.precision,
        }
        return described | ({"targets": self.targets} if self.targeted else {})


def _answer(ascent: Ascent) -> AttackResult:
    fooled = per_sample(ascent.fooled, ascent.best)
    return AttackResult(
        adversarial=torch.where(fooled, ascent.fooling, ascent.best),
        goal_start=ascent.begun,
        goal_end=torch.where(ascent.fooled, ascent.fooling_value, ascent.best_value),
        fooled=ascent.fooled,
    )
