"""The one gradient loop: FGSM, FGSM-RS, BIM, PGD in ℓ∞ and ℓ2 and MI-FGSM are configurations of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kdrobust.attacks.contract import attack_mode, check_inputs, check_logits
from kdrobust.attacks.goals import Climb, Target, describe_goal, find_goal
from kdrobust.attacks.threat import STARTS, Threat, default_keys, per_sample
from kdrobust.config.numbers import as_number
from kdrobust.errors import UsageError
from kdrobust.randomness import address

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: x', [B, ...].
        goal_start: the goal at the start of the kept restart, [B].
        goal_end: the goal at x', [B].
        fooled: whether x' is answered wrongly (targeted: with the wanted class), [B] bool.
    """

    adversarial: Tensor
    goal_start: Tensor
    goal_end: Tensor
    fooled: Tensor


class GradientAttack:
    r"""Projected gradient ascent of a goal inside a threat model.

    $x'_{k+1} = \Pi\left(x'_k + \alpha \cdot \mathrm{step}(g_k)\right)$ with $g_k = \nabla_{x'}$ of the goal's *sum* over
    the batch, so that neither batch size nor guards change a sample's path. With momentum μ the step follows
    $m_k = \mu m_{k-1} + g_k / \|g_k\|_1$ (MI-FGSM).

    Args:
        threat: norm, ε and pixel range.
        goal: a name of `kdrobust.attacks.goals.GOALS`, or a function that binds to a `Target`.
        steps: number of steps >= 0.
        step_size: α in pixels' units, a number or a fraction.
        start: `none`, `uniform`, `uniform_unclipped` or `normal`; see `Threat.random_start`.
        momentum: μ >= 0; 0 is plain PGD.
        restarts: independent runs; per sample one that fools is kept first, then the highest goal.
        keep: `last` returns the last iterate, `best` the one with the highest goal, the start included.
        model_mode: the mode the model is attacked in: `eval`, or `train` where a paper's code does so.
        targeted: descend, and read the labels as the classes wanted.

    Raises:
        UsageError: a value outside its range; names the key.

    Sources: Goodfellow 2015 (FGSM), Kurakin 2017 (BIM), Madry 2018 (PGD), Dong 2018 (MI-FGSM), Wong 2020 (FGSM-RS).
    """

    def __init__(
        self,
        *,
        threat: Threat,
        goal: str | Callable[[Target], Climb] = "cross_entropy",
        steps: int = 10,
        step_size: float | str = 2 / 255,
        start: str = "none",
        momentum: float = 0.0,
        restarts: int = 1,
        keep: str = "last",
        model_mode: str = "eval",
        targeted: bool = False,
    ) -> None:
        try:
            self.step_size = as_number(step_size, "attack.step_size")
        except ValueError as error:
            raise UsageError(str(error)) from None
        for key, value, least in (("steps", steps, 0), ("restarts", restarts, 1), ("momentum", momentum, 0)):
            if value < least:
                raise UsageError(f"attack.{key}={value}: must be at least {least}")
        if self.step_size < 0:
            raise UsageError(f"attack.step_size={step_size}: must not be negative")
        choices = (("start", start, STARTS), ("keep", keep, ("last", "best")), ("model_mode", model_mode, ("eval", "train")))
        for key, choice, known in choices:
            if choice not in known:
                raise UsageError(f"attack.{key}={choice}: no such choice; there are {', '.join(known)}")
        self.threat = threat
        self.goal = goal
        self.steps = steps
        self.start = start
        self.momentum = momentum
        self.restarts = restarts
        self.keep = keep
        self.model_mode = model_mode
        self.targeted = targeted
        self._bind = find_goal(goal)

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        teacher: Model | None = None,
        teacher_logits: Tensor | Callable[[], Tensor] | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        scale: float = 1.0,
        initial: Tensor | None = None,
        validate: bool = True,
    ) -> Tensor:
        """Adversarial inputs for a batch. Works under `no_grad` and `inference_mode`; leaves the model as it was.

        Args:
            model: inputs to logits.
            inputs: clean x in the threat's bounds, [B, ...] floating.
            labels: true classes (targeted: wanted ones), [B].
            teacher: for goals that look at one; its parameters are left alone.
            teacher_logits: T(x), [B, K], or a function that computes it when a goal asks.
            keys: [B] integers that address each sample's random start; by default its place in the batch.
            seed: address of the random starts.
            scale: factor on ε and step size, in [0, 1] (warm-up).
            initial: begin here instead of at a random start, [B, ...].
            validate: check inputs and logits first; costs a forward and a host synchronisation.

        Returns:
            x', [B, ...], detached, inside ball and box.

        Raises:
            AttackError: inputs or outputs the attack cannot be honest about.
        """
        settings = self._prepare(model, inputs, labels, teacher, teacher_logits, keys)
        with torch.inference_mode(False), torch.enable_grad():
            with attack_mode(model, self.model_mode):
                if validate:
                    self._check(model, settings)
                climb = self._bind(settings)
                if self.restarts == 1 and self.keep == "last":
                    start = self._begin(settings, keys, seed, scale, 0, initial)
                    return self._ascend(model, settings, climb, start, scale)
                return self._search(model, settings, climb, keys, seed, scale, initial).adversarial

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        teacher: Model | None = None,
        teacher_logits: Tensor | Callable[[], Tensor] | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        scale: float = 1.0,
        initial: Tensor | None = None,
        validate: bool = True,
    ) -> AttackResult:
        """As calling the attack, with what an evaluation wants to know beside x'. Arguments are the same."""
        settings = self._prepare(model, inputs, labels, teacher, teacher_logits, keys)
        with torch.inference_mode(False), torch.enable_grad(), attack_mode(model, self.model_mode):
            if validate:
                self._check(model, settings)
            return self._search(model, settings, self._bind(settings), keys, seed, scale, initial)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        return {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "goal": describe_goal(self.goal),
            "steps": self.steps,
            "step_size": self.step_size,
            "start": self.start,
            "momentum": self.momentum,
            "restarts": self.restarts,
            "keep": self.keep,
            "model_mode": self.model_mode,
            "targeted": self.targeted,
        }

    def _prepare(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        teacher: Model | None,
        teacher_logits: Tensor | Callable[[], Tensor] | None,
        keys: Tensor | None,
    ) -> Target:
        # tensors made under inference_mode may not enter a graph: clone them outside of it
        with torch.inference_mode(False):
            clean = inputs.detach().clone() if inputs.is_inference() else inputs.detach()
            truth = labels.detach().clone() if labels.is_inference() else labels.detach()
            known = teacher_logits
            if isinstance(known, Tensor) and known.is_inference():
                known = known.detach().clone()
            if not truth.is_floating_point():
                truth = truth.long()
        return Target(model=model, inputs=clean, labels=truth, teacher=teacher, teacher_logits=known)

    def _check(self, model: Model, target: Target) -> None:
        check_inputs(target.inputs, target.labels, cast("tuple[float, float]", tuple(self.threat.bounds)))
        with torch.no_grad():
            check_logits(model(target.inputs), target.labels)

    def _begin(
        self, target: Target, keys: Tensor | None, seed: int, scale: float, restart: int, initial: Tensor | None
    ) -> Tensor:
        if initial is not None and restart == 0:
            return initial.detach().clone()
        where = default_keys(target.inputs) if keys is None else keys.detach().clone().to(target.inputs.device)
        seed = address(seed, "start", restart)
        return self.threat.random_start(target.inputs, self.start, where, seed=seed, scale=scale)

    def _value_and_gradient(self, model: Model, climb: Climb, point: Tensor) -> tuple[Tensor, Tensor]:
        point = point.detach().requires_grad_(True)
        value = climb(point, model(point))
        (gradient,) = torch.autograd.grad(value.sum(), point)
        return value.detach(), -gradient if self.targeted else gradient

    def _advance(
        self, target: Target, point: Tensor, gradient: Tensor, velocity: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor | None]:
        if velocity is not None:
            size = gradient.flatten(1).abs().sum(dim=1)
            tiny = torch.finfo(gradient.dtype).tiny
            velocity = self.momentum * velocity + gradient / per_sample(size.clamp(min=tiny), gradient)
            gradient = velocity
        moved = point + self.threat.step(gradient, self.step_size * scale)
        return self.threat.project(moved, target.inputs, self.threat.radius * scale), velocity

    def _ascend(self, model: Model, target: Target, climb: Climb, start: Tensor, scale: float) -> Tensor:
        point, velocity = start, torch.zeros_like(start) if self.momentum else None
        for _ in range(self.steps):
            _, gradient = self._value_and_gradient(model, climb, point)
            point, velocity = self._advance(target, point, gradient, velocity, scale)
        if not self.steps:
            point = self.threat.project(point, target.inputs, self.threat.radius * scale)
        return point.detach()

    def _climb_best(
        self, model: Model, target: Target, climb: Climb, start: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sign = -1.0 if self.targeted else 1.0
        # a start outside the threat model (`normal`, `uniform_unclipped`) cannot be the answer
        point = start
        answer = self.threat.project(start, target.inputs, self.threat.radius * scale)
        best, first, logits = self._evaluate(model, climb, answer, sign)
        begun, velocity = first, torch.zeros_like(start) if self.momentum else None
        for step in range(self.steps):
            _, gradient = self._value_and_gradient(model, climb, point)
            point, velocity = self._advance(target, point, gradient, velocity, scale)
            if self.keep == "last" and step < self.steps - 1:
                continue
            value, _, outputs = self._evaluate(model, climb, point, sign)
            better = torch.ones_like(value, dtype=torch.bool) if self.keep == "last" else value > best
            best = torch.where(better, value, best)
            answer = torch.where(per_sample(better, answer), point, answer)
            logits = torch.where(better.unsqueeze(1), outputs, logits)
        return answer.detach(), begun, best, logits

    def _evaluate(self, model: Model, climb: Climb, point: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            logits = model(point)
            value = sign * climb(point, logits)
        return value, value, logits

    def _search(
        self,
        model: Model,
        target: Target,
        climb: Climb,
        keys: Tensor | None,
        seed: int,
        scale: float,
        initial: Tensor | None,
    ) -> AttackResult:
        result: AttackResult | None = None
        for restart in range(self.restarts):
            start = self._begin(target, keys, seed, scale, restart, initial)
            adversarial, begun, ended, logits = self._climb_best(model, target, climb, start, scale)
            hit = logits.argmax(dim=1) == target.labels
            fooled = hit if self.targeted else ~hit
            found = AttackResult(adversarial=adversarial, goal_start=begun, goal_end=ended, fooled=fooled)
            result = found if result is None else _better(result, found)
        assert result is not None
        return result


def _better(first: AttackResult, second: AttackResult) -> AttackResult:
    wins = (second.fooled & ~first.fooled) | ((second.fooled == first.fooled) & (second.goal_end > first.goal_end))
    return AttackResult(
        adversarial=torch.where(per_sample(wins, first.adversarial), second.adversarial, first.adversarial),
        goal_start=torch.where(wins, second.goal_start, first.goal_start),
        goal_end=torch.where(wins, second.goal_end, first.goal_end),
        fooled=torch.where(wins, second.fooled, first.fooled),
    )


class NoAttack:
    """The attack that does nothing: x' = x."""

    def __call__(self, model: Model, inputs: Tensor, labels: Tensor, **unused: Any) -> Tensor:
        """The inputs, detached."""
        return inputs.detach().clone()

    def describe(self) -> dict[str, Any]:
        """Plain values, for result files."""
        return {"attack": type(self).__name__}
