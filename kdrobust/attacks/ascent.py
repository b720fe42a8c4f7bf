"""The climb of Auto-PGD from one start: its step size, its checkpoints, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from kdrobust.attacks.contract import is_wrong
from kdrobust.attacks.goals import Climb, Target
from kdrobust.attacks.result import higher
from kdrobust.attacks.samples import Samples
from kdrobust.attacks.slope import slope
from kdrobust.attacks.threat import Threat, per_sample
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


@dataclass(frozen=True, kw_only=True)
class Climber:
    """Settings of a climb; see `APGD`."""

    threat: Threat
    bind: Callable[[Target], Climb]
    steps: int
    rho: float
    draws: int
    compact: bool

    def climb(self, samples: Samples, start: Tensor, *, seed: int) -> Ascent:
        """Climb from a start.

        Args:
            samples: whom to attack.
            start: clipped to the box first, [B, ...].
            seed: address of the model's own noise.
        """
        start = self.threat.clip(start)
        climb = samples.bind(self.bind)
        value, logits, gradient = slope(samples.model, climb, start, draws=self.draws, seed=address(seed, "step", 0))
        wrong = samples.wrong(start, logits)
        found = Ascent(
            begun=value,
            best=start.clone(),
            best_value=value.clone(),
            fooling=start.clone(),
            fooling_value=value.clone(),
            fooled=wrong.clone(),
        )
        on = _Climbers.begin(start, value, gradient, size=2.0 * self.threat.radius)
        checkpoints, last = _checkpoints(self.steps), 0
        for step in range(1, self.steps + 1):
            if self.compact and bool(wrong.any()):
                on.hand_over(found)
                on.keep(~wrong)
                samples = samples.rows(~wrong)
                climb = samples.bind(self.bind)
            if not len(on.rows):
                return found
            _move(self.threat, on, samples.inputs, share=1.0 if step == 1 else MOMENTUM)
            before = on.value
            at = address(seed, "step", step)
            on.value, logits, on.gradient = slope(samples.model, climb, on.point, draws=self.draws, seed=at)
            wrong = samples.wrong(on.point, logits)
            fell = on.rows[wrong]
            found.fooled[fell] = True
            found.fooling[fell], found.fooling_value[fell] = on.point[wrong], on.value[wrong]
            # in single precision, and the first step against 0: see `APGD`
            on.rises = on.rises + (on.value.float() > (before.float() if step > 1 else 0.0))
            on.remember()
            if step in checkpoints:
                on.adapt((step - last) * self.rho)
                last = step
        on.hand_over(found)
        self._last_word(samples, on, found)
        return found

    @staticmethod
    @torch.no_grad()
    def _last_word(samples: Samples, on: _Climbers, found: Ascent) -> None:
        """Where a form of the model was climbed: what it could not break, the exact model looks at once."""
        if samples.model is samples.exact:
            return
        fell = is_wrong(samples.exact(on.best), samples.labels) & ~found.fooled[on.rows]
        rows = on.rows[fell]
        found.fooled[rows] = True
        found.fooling[rows], found.fooling_value[rows] = on.best[fell], on.best_value[fell]


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

    @classmethod
    def begin(cls, start: Tensor, value: Tensor, gradient: Tensor, *, size: float) -> _Climbers:
        return cls(
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
            # single precision: part of what the authors' arrays depend on, 1e-9 of a pixel
            size=torch.full_like(value, size, dtype=torch.float32),
        )

    def keep(self, standing: Tensor) -> None:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name)[standing])

    def remember(self) -> None:
        wins = higher(self.value, self.best_value)
        wide = per_sample(wins, self.point)
        self.best = torch.where(wide, self.point, self.best)
        self.best_gradient = torch.where(wide, self.gradient, self.best_gradient)
        self.best_value = torch.where(wins, self.value, self.best_value)

    def adapt(self, enough: float) -> None:
        """A checkpoint: who rose in no more than so many steps, or is stuck, goes back to its best with half a step."""
        stuck = ~self.halved & ~higher(self.best_value, self.checked_value)
        self.halved = (self.rises <= enough) | stuck
        self.checked_value = self.best_value
        self.rises = torch.zeros_like(self.rises)
        self.size = torch.where(self.halved, 0.5 * self.size, self.size)
        back = per_sample(self.halved, self.point)
        self.point = torch.where(back, self.best, self.point)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)

    def hand_over(self, found: Ascent) -> None:
        found.best[self.rows] = self.best
        found.best_value[self.rows] = self.best_value


def _move(threat: Threat, on: _Climbers, inputs: Tensor, *, share: float) -> None:
    ahead = on.point + _step(threat, on.gradient, per_sample(on.size, on.point))
    ahead = _project(threat, ahead, inputs)
    moved = on.point + share * (ahead - on.point) + (1.0 - share) * (on.point - on.before)
    on.before, on.point = on.point, _project(threat, moved, inputs)


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


def _checkpoints(steps: int) -> frozenset[int]:
    """After which steps a climb is judged."""
    interval, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], interval
    while at <= steps:
        found.append(at)
        interval = max(interval - shrink, least)
        at += interval
    return frozenset(found)
