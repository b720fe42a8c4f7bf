"""FMN: the nearest adversarial example, by steps on a sphere whose radius follows what is found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.goals import GOALS, likeliest_others
from kdrobust.attacks.nearest import MinimumNorm, Nearest, cosine
from kdrobust.attacks.samples import Samples
from kdrobust.attacks.settings import count, number
from kdrobust.attacks.slope import look, slope
from kdrobust.attacks.threat import Threat, l2_norm, per_sample
from kdrobust.randomness import address


class FMN(MinimumNorm):
    r"""Fast minimum-norm attack in ℓ∞ and ℓ2.

    Each step climbs the margin and projects on a ball of the sample's own radius. That shrinks by a factor 1 - γ where
    the point fools and grows by 1 + γ where it does not; before a first success it is the distance at which the
    linearised margin crosses zero, $\|\delta\|_p + |m| / \|\nabla m\|_q$. γ and the step length fall along half a
    cosine, the step to 1 % of its first value.

    Args:
        threat: norm and pixel range; its ε is the radius an evaluation judges by.
        steps: gradient steps a start >= 1.
        step_size: first step in units of the sample's own radius: α‖·‖₂ in ℓ2, a pixel's root mean square in ℓ∞.
        gamma: first γ, in (0, 1).
        gamma_end: last γ, in (0, 1).
        targets: beside the margin of the best other class, also aim at each of so many other classes, the likeliest
            first. Each costs as much as the untargeted search, and finds nearer points where several classes are near.
        restarts: the first starts at x, the others at random around it, as far off as the nearest point found.
        stop_at_eps: let a sample go once an answer within the threat's ε is found. Changes no verdict at that ε, but
            the distances are no longer the smallest.

    Raises:
        UsageError: a value outside its range; names the key.

    Source: Pintor et al., NeurIPS 2021, arXiv:2102.12827, algorithm 1. Unlike there the step is in units of the radius,
    so that it fits any image size, and the linear estimate is passed by a factor 1 + γ: a model that is linear around x
    would otherwise be approached for ever and never crossed.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        steps: int = 100,
        step_size: float | str = 1.0,
        gamma: float | str = 0.05,
        gamma_end: float | str = 0.001,
        targets: int = 0,
        restarts: int = 1,
        stop_at_eps: bool = False,
    ) -> None:
        super().__init__(threat=threat)
        self.steps = count("steps", steps, least=1)
        self.step_size = number("step_size", step_size, positive=True)
        self.gamma = number("gamma", gamma, positive=True, most=0.99)
        self.gamma_end = number("gamma_end", gamma_end, positive=True, most=0.99)
        self.targets = count("targets", targets, least=0)
        self.restarts = count("restarts", restarts, least=1)
        self.stop_at_eps = stop_at_eps

    def _settings(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "gamma": self.gamma,
            "gamma_end": self.gamma_end,
            "targets": self.targets,
            "restarts": self.restarts,
            "stop_at_eps": self.stop_at_eps,
        }

    def _search(self, nearest: Nearest, logits: Tensor, *, seed: int) -> None:
        aims: list[Tensor | None] = [None]
        if self.targets:
            aims += likeliest_others(logits, nearest.samples.labels, self.targets).unbind(dim=1)
        for restart in range(self.restarts):
            for place, aim in enumerate(aims):
                self._descend(nearest, aim, restart=restart, seed=address(seed, "start", restart, place))

    def _descend(self, nearest: Nearest, aim: Tensor | None, *, restart: int, seed: int) -> None:
        goal = GOALS["margin" if aim is None else "margin_targeted"]
        rows = torch.nonzero(self._wanted(nearest.distance)).flatten()
        on = nearest.samples.aimed(aim).rows(rows)
        point = on.inputs.clone() if not restart else self._around(on, nearest.distance[rows], seed)
        radius, climb = torch.full_like(nearest.distance[rows], float("inf")), on.bind(goal)
        crossed = torch.zeros_like(rows, dtype=torch.bool)
        for step in range(self.steps):
            if not len(rows):
                return
            value, logits, gradient = slope(on.model, climb, point)
            wrong, away = nearest.consider(point, logits, rows)
            gamma = cosine(self.gamma, self.gamma_end, step, self.steps)
            length = cosine(self.step_size, 0.01 * self.step_size, step, self.steps)
            crossed = crossed | wrong
            estimate = torch.where(crossed, radius, self._crossing(away, value, gradient))
            inward = torch.minimum(radius * (1.0 - gamma), nearest.distance[rows])
            radius = torch.where(wrong, inward, estimate * (1.0 + gamma))
            point = self._step(point, on.inputs, gradient, length, radius)
            stays = self._wanted(nearest.distance[rows])
            if self.stop_at_eps and not bool(stays.all()):
                rows, on, point, radius = rows[stays], on.rows(stays), point[stays], radius[stays]
                crossed, climb = crossed[stays], on.bind(goal)
        if len(rows):
            nearest.consider(point, look(on.model, climb, point)[1], rows)

    def _wanted(self, distance: Tensor) -> Tensor:
        """Whether a nearer answer is still looked for, [B] bool."""
        return distance > (self.threat.radius if self.stop_at_eps else -1.0)

    def _around(self, samples: Samples, known: Tensor, seed: int) -> Tensor:
        low, high = self.threat.box
        wide = replace(self.threat, eps=high - low)
        share = torch.where(known.isfinite(), known, self.threat.radius) / (high - low)
        return wide.random_start(
            samples.inputs, "uniform", samples.keys, seed=seed, scale=per_sample(share, samples.inputs)
        )

    def _crossing(self, away: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """How far from x the linearised margin is zero, [B]."""
        flat = gradient.flatten(1)
        linf = self.threat.norm == "linf"
        dual = flat.abs().sum(dim=1) if linf else flat.norm(dim=1)
        gap = (-value).clamp(min=0.0).to(away.dtype) / dual.clamp(min=torch.finfo(dual.dtype).tiny)
        # a flat goal says nothing about where the boundary is: no farther than the box is wide
        low, high = self.threat.box
        return (away + gap).clamp(max=(high - low) * (1.0 if linf else math.sqrt(flat.shape[1])))

    def _step(self, point: Tensor, inputs: Tensor, gradient: Tensor, length: float, radius: Tensor) -> Tensor:
        wide = per_sample(radius, point)
        if self.threat.norm == "linf":
            length *= math.sqrt(math.prod(point.shape[1:]))
        unit = gradient / l2_norm(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
        return self.threat.project(point + length * wide * unit, inputs, wide)
