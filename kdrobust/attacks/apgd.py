"""Auto-PGD: gradient ascent that sets its own step size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model
from kdrobust.attacks.goals import NEED_TARGETS, Climb, Target, describe_goal, find_goal, likeliest_others
from kdrobust.attacks.result import AttackResult, higher
from kdrobust.attacks.samples import Findings, Samples, prepared
from kdrobust.attacks.settings import choice, count, number
from kdrobust.attacks.slope import slope
from kdrobust.attacks.threat import STARTS, Threat, per_sample
from kdrobust.errors import UsageError
from kdrobust.randomness import address

#: Share of a step that follows the gradient, the rest follows the last move; the first step is all gradient.
MOMENTUM = 0.75


@dataclass(kw_only=True)
class Ascent:
    """What came of one start, a row a sample.

    Attributes:
        begun: the goal at the start, [B].
        best: the iterate with the highest goal, the start included, [B, ...].
        best_value: the goal there, [B].
        fooling: the last iterate after the start that the model got wrong (with compaction the first); the start where
            there is none, [B, ...].
        fooling_value: the goal there, [B].
        fooled: whether any iterate, the start included, was wrong, [B] bool.
    """

    begun: Tensor
    best: Tensor
    best_value: Tensor
    fooling: Tensor
    fooling_value: Tensor
    fooled: Tensor


@dataclass(kw_only=True)
class _Climbers:
    """The samples still climbing, a row each."""

    rows: Tensor
    point: Tensor
    before: Tensor
    gradient: Tensor
    value: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    checked_value: Tensor
    halved: Tensor
    rises: Tensor
    size: Tensor

    def keep(self, standing: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[standing])


class APGD:
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

    Raises:
        UsageError: a value outside its range; names the key.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, algorithm 1. As in the authors' code, and unlike the paper, rises
    are counted in single precision, after a return to the best point against the iterate before it, and at the first
    step of all against 0.
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
        self._bind = find_goal(goal)

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
            UsageError: fewer classes than the goal needs.
        """
        with prepared(
            model, inputs, labels, keys=keys, seed=seed, bounds=self.threat.box, validate=validate
        ) as (samples, logits):
            aims: list[Tensor | None] = [None]
            if self.targeted:
                aims = list(likeliest_others(logits, samples.labels, self.targets).unbind(dim=1))
            value = samples.aimed(aims[0]).bind(self._bind)(samples.inputs, logits).detach()
            findings = Findings.clean(samples, logits, value)
            for restart in range(self.restarts):
                for number_of_aim, aim in enumerate(aims):
                    rows = findings.todo(compact=self.compact)
                    if not len(rows):
                        break
                    some = samples.aimed(aim).rows(rows)
                    at = address(seed, "start", restart, number_of_aim)
                    start = self.threat.random_start(some.inputs, self.start, some.keys, seed=at)
                    findings.put(rows, self._answer(self._climb(some, start, seed=at)))
            return findings.result()

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
            bounds=self.threat.box,
            validate=validate,
            initial=initial,
            targets=targets,
        ) as (samples, _):
            return self._climb(samples, initial.detach().clone(), seed=seed)

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
        }
        return described | ({"targets": self.targets} if self.targeted else {})

    def _answer(self, ascent: Ascent) -> AttackResult:
        fooled = per_sample(ascent.fooled, ascent.best)
        return AttackResult(
            adversarial=torch.where(fooled, ascent.fooling, ascent.best),
            goal_start=ascent.begun,
            goal_end=torch.where(ascent.fooled, ascent.fooling_value, ascent.best_value),
            fooled=ascent.fooled,
        )

    def _climb(self, samples: Samples, start: Tensor, *, seed: int) -> Ascent:
        start = self.threat.clip(start)
        standing, climb = samples, samples.bind(self._bind)
        value, logits, gradient = slope(samples.model, climb, start, draws=self.eot, seed=address(seed, "step", 0))
        wrong = logits.argmax(dim=1) != samples.labels
        found = Ascent(
            begun=value,
            best=start.clone(),
            best_value=value.clone(),
            fooling=start.clone(),
            fooling_value=value.clone(),
            fooled=wrong,
        )
        on = self._set_out(start, value, gradient)
        checkpoints = _checkpoints(self.steps)
        last_checkpoint = 0
        for step in range(1, self.steps + 1):
            if self.compact:
                stays = ~wrong
                if not bool(stays.all()):
                    self._keep_best(found, on)
                    on.keep(stays)
                    standing = standing.rows(stays)
                    climb = standing.bind(self._bind)
                if not len(on.rows):
                    return found
            self._move(on, standing.inputs, first=step == 1)
            before = on.value
            on.value, logits, on.gradient = slope(
                standing.model, climb, on.point, draws=self.eot, seed=address(seed, "step", step)
            )
            wrong = logits.argmax(dim=1) != standing.labels
            fell = on.rows[wrong]
            found.fooled[fell] = True
            found.fooling[fell] = on.point[wrong]
            found.fooling_value[fell] = on.value[wrong]
            # in single precision, and the first step against 0: see the class
            on.rises = on.rises + (on.value.float() > (before.float() if step > 1 else 0.0))
            self._remember(on)
            if step in checkpoints:
                self._adapt(on, step - last_checkpoint)
                last_checkpoint = step
        self._keep_best(found, on)
        return found

    def _set_out(self, start: Tensor, value: Tensor, gradient: Tensor) -> _Climbers:
        return _Climbers(
            rows=torch.arange(len(start), device=start.device),
            point=start,
            before=start,
            gradient=gradient,
            value=value,
            best=start,
            best_gradient=gradient,
            best_value=value,
            checked_value=value,
            halved=torch.ones_like(value, dtype=torch.bool),
            rises=torch.zeros_like(value, dtype=torch.int64),
            size=torch.full_like(value, 2.0 * self.threat.radius, dtype=torch.float32),
        )

    def _move(self, on: _Climbers, inputs: Tensor, *, first: bool) -> None:
        share = 1.0 if first else MOMENTUM
        ahead = on.point + _step(self.threat, on.gradient, per_sample(on.size, on.point))
        ahead = _project(self.threat, ahead, inputs)
        moved = on.point + share * (ahead - on.point) + (1.0 - share) * (on.point - on.before)
        on.before, on.point = on.point, _project(self.threat, moved, inputs)

    @staticmethod
    def _remember(on: _Climbers) -> None:
        wins = higher(on.value, on.best_value)
        wide = per_sample(wins, on.point)
        on.best = torch.where(wide, on.point, on.best)
        on.best_gradient = torch.where(wide, on.gradient, on.best_gradient)
        on.best_value = torch.where(wins, on.value, on.best_value)

    def _adapt(self, on: _Climbers, steps: int) -> None:
        few = on.rises <= steps * self.rho
        stuck = ~on.halved & ~higher(on.best_value, on.checked_value)
        on.halved = few | stuck
        on.checked_value = on.best_value
        on.rises = torch.zeros_like(on.rises)
        on.size = torch.where(on.halved, 0.5 * on.size, on.size)
        back = per_sample(on.halved, on.point)
        on.point = torch.where(back, on.best, on.point)
        on.gradient = torch.where(back, on.best_gradient, on.gradient)

    @staticmethod
    def _keep_best(found: Ascent, on: _Climbers) -> None:
        found.best[on.rows] = on.best
        found.best_value[on.rows] = on.best_value


def _checkpoints(steps: int) -> frozenset[int]:
    """After which steps a climb is judged."""
    interval, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], interval
    while at <= steps:
        found.append(at)
        interval = max(interval - shrink, least)
        at += interval
    return frozenset(found)


def _length(values: Tensor) -> Tensor:
    # not `l2_norm`: on a plateau of the DLR goal the climb follows the last bits, and this is the order of the sums
    # that reproduces the authors' arrays
    return per_sample(values.square().flatten(1).sum(dim=1).sqrt(), values)


def _unit(values: Tensor) -> Tensor:
    # the guard is part of the attack: on a plateau gradients are hardly longer than it
    return values / (_length(values) + 1e-12)


def _step(threat: Threat, gradient: Tensor, size: Tensor) -> Tensor:
    return size * _unit(gradient) if threat.norm == "l2" else threat.step(gradient, size)


def _project(threat: Threat, point: Tensor, inputs: Tensor) -> Tensor:
    if threat.norm != "l2":
        return threat.project(point, inputs, threat.radius)
    away = point - inputs
    return threat.clip(inputs + _unit(away) * _length(away).clamp(max=threat.radius))
