"""The one gradient loop: FGSM, FGSM-RS, BIM, PGD in ℓ∞ and ℓ2 and MI-FGSM are configurations of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_inputs, check_logits, check_shapes, clean_logits
from kdrobust.attacks.goals import (
    NEED_LIVE_TEACHER,
    Climb,
    Target,
    describe_goal,
    find_goal,
    normal_tensor,
)
from kdrobust.attacks.half import answer, asked
from kdrobust.attacks.hunt import hunt
from kdrobust.attacks.kernels import PRECISIONS, climbed, form_of
from kdrobust.attacks.result import AttackResult, Track, better_of, improve
from kdrobust.attacks.settings import choice, count, number
from kdrobust.attacks.slope import look, slope, uphill
from kdrobust.attacks.task import Task
from kdrobust.attacks.threat import STARTS, Threat, default_keys, per_sample
from kdrobust.attacks.undisturbed import undisturbed
from kdrobust.errors import UsageError
from kdrobust.losses.numerics import lift
from kdrobust.randomness import address


class GradientAttack:
    r"""Projected gradient ascent of a goal inside a threat model.

    $x'_{k+1} = \Pi\left(x'_k + \alpha \cdot \mathrm{step}(g_k)\right)$ with $g_k = \nabla_{x'}$ of the goal's *sum*
    over the batch, so that neither batch size nor guards change a sample's path. With momentum μ the step follows
    $m_k = \mu m_{k-1} + g_k / \|g_k\|_1$ (MI-FGSM). Nothing but the answer remains: modes, parameters' gradients,
    statistics and random generators are as before, also after an exception.

    Args:
        threat: norm, ε and pixel range.
        goal: a name of `kdrobust.attacks.goals.GOALS`, or a function that binds to a `Target`.
        steps: number of steps >= 0.
        step_size: α >= 0 in pixels' units, a number or a fraction.
        start: `none`, `uniform`, `uniform_unclipped` or `normal`; see `Threat.random_start`.
        momentum: μ >= 0; 0 is plain PGD.
        restarts: independent runs; per sample one that fools is kept first, then the highest goal.
        keep: `last` returns the last iterate, `best` the one with the highest goal, the start included; then a sample
            that is fooled takes no part in later restarts, which changes no verdict; `fooling`, for measuring, the
            first iterate that fools, where a sample leaves the batch, else the one with the highest goal.
        exact_steps: with `fooling`, how many of the last steps climb the exact model, whatever `precision`.
        model_mode: the mode the model is attacked in: `eval`, or `train` where a paper's code does so.
        targeted: descend, and read the labels as the classes wanted.
        precision: what is climbed in eval mode, see `kdrobust.attacks.kernels.climbed`: `exact`, the model itself;
            `fp32`, its folded form; `bf16`, that in half precision; `auto`, by the network's size and the hardware.
            Verdicts of `run` are the exact model's.
        compile: run the folded form through `torch.compile`: tens of seconds once, and again at a new batch size.
        eot: draws of the model's own noise that each gradient, and each verdict, is a mean of (expectation over
            transformation, Athalye et al. 2018); 1 for models without. Costs as many times more.

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
        momentum: float | str = 0.0,
        restarts: int = 1,
        keep: str = "last",
        model_mode: str = "eval",
        targeted: bool = False,
        eot: int = 1,
        precision: str = "exact",
        compile: bool = False,
        exact_steps: int = 0,
    ) -> None:
        self.threat = threat
        self.goal = goal
        self.steps = count("steps", steps, least=0)
        self.step_size = number("step_size", step_size)
        self.start = choice("start", start, STARTS)
        self.momentum = number("momentum", momentum)
        self.restarts = count("restarts", restarts, least=1)
        self.keep = choice("keep", keep, ("last", "best", "fooling"))
        self.model_mode = choice("model_mode", model_mode, ("eval", "train"))
        self.targeted = targeted
        self.eot = count("eot", eot, least=1)
        self.precision = choice("precision", precision, PRECISIONS)
        self.compile = compile
        self.exact_steps = count("exact_steps", exact_steps, least=0)
        self._bind = find_goal(goal)
        if self.keep == "fooling" and (self.momentum or self.eot > 1):
            raise UsageError("attack.keep=fooling: goes with momentum=0 and eot=1; use keep=best")
        if self.compile and self.precision == "exact":
            raise UsageError("attack.compile=true: the exact model is never compiled; set attack.precision=auto")
        if self.keep != "fooling" and self.exact_steps:
            raise UsageError(f"attack.exact_steps={exact_steps}: goes with keep=fooling alone; set it to 0")

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        teacher: Model | None = None,
        teacher_logits: Tensor | Callable[[], Tensor] | None = None,
        targets: Tensor | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        scale: float | Tensor = 1.0,
        initial: Tensor | None = None,
        validate: bool = True,
        survived: Tensor | None = None,
    ) -> Tensor:
        """Adversarial inputs for a batch. Works under `no_grad` and `inference_mode`.

        With `keep=last` and one restart it costs `steps` passes forward and backward, `validate` one more forward.

        Args:
            model: inputs to logits.
            inputs: clean x in the threat's bounds, [B, ...] floating.
            labels: true classes (targeted: wanted ones), [B] integers.
            teacher: for goals that look at one; it answers in eval mode and is left as it was.
            teacher_logits: T(x), [B, K], or a function that computes it when a goal asks.
            targets: wanted classes for `dlr_targeted`, [B] integers; by default each sample's likeliest other one.
            keys: [B] integers that address each sample's random start; by default its place in the batch.
            seed: address of the random starts.
            scale: factor on ε and step size, in [0, 1]: one number (warm-up), or [B] for an ε of each sample's own.
            initial: begin the first restart here instead of at a random start, [B, ...].
            validate: check pixels, labels and clean logits first; costs a forward and a host synchronisation.
            survived: [B] numbers, overwritten with the steps at whose beginning the sample was answered with its label,
                of the last restart. Costs nothing: those answers are needed anyway.

        Returns:
            x', [B, ...], detached, inside ball and box.

        Raises:
            AttackError: inputs or outputs the attack cannot be honest about.
            UsageError: a goal that lacks what it looks at, or that is flat where the attack starts.
        """
        if self.restarts > 1 or self.keep != "last":
            return self.run(
                model,
                inputs,
                labels,
                teacher=teacher,
                teacher_logits=teacher_logits,
                targets=targets,
                keys=keys,
                seed=seed,
                scale=scale,
                initial=initial,
                validate=validate,
                survived=survived,
            ).adversarial
        target = Target(
            model=model, inputs=inputs, labels=labels, teacher=teacher, teacher_logits=teacher_logits, targets=targets
        )
        with self._ascent(target, keys, seed, scale, initial, validate, survived) as ascent:
            return answer(ascent.exact, self._walk(ascent, restart=0))

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        teacher: Model | None = None,
        teacher_logits: Tensor | Callable[[], Tensor] | None = None,
        targets: Tensor | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        scale: float | Tensor = 1.0,
        initial: Tensor | None = None,
        validate: bool = True,
        survived: Tensor | None = None,
    ) -> AttackResult:
        """As calling the attack, with what an evaluation wants to know beside x'. Arguments and errors are the same.

        Costs one more forward a restart, and another where the start may lie outside the threat model.
        """
        target = Target(
            model=model, inputs=inputs, labels=labels, teacher=teacher, teacher_logits=teacher_logits, targets=targets
        )
        with self._ascent(target, keys, seed, scale, initial, validate, survived) as ascent:
            found = self._search(ascent, restart=0)
            for restart in range(1, self.restarts):
                if self.keep == "last":
                    found = better_of(found, self._search(ascent, restart=restart))
                    continue
                rows = torch.nonzero(~found.fooled).flatten()
                if not len(rows):
                    break
                standing = ascent.rows(rows)
                found = improve(found, rows, self._search(standing, restart=restart))
                if ascent.survived is not None and standing.survived is not None:
                    ascent.survived[rows] = standing.survived
            return replace(found, adversarial=answer(ascent.exact, found.adversarial))

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
            "eot": self.eot,
            "precision": self.precision,
            **({"compile": True} if self.compile else {}),
            **({"exact_steps": self.exact_steps} if self.keep == "fooling" else {}),
        }

    def climbs(self, model: Model) -> str:
        """What it climbed of a model when it last attacked it: `exact`, `fp32` or `bf16`."""
        return form_of(model, self.precision if self.model_mode == "eval" else "exact")

    @contextmanager
    def _ascent(
        self,
        given: Target,
        keys: Tensor | None,
        seed: int,
        scale: float | Tensor,
        initial: Tensor | None,
        validate: bool,
        survived: Tensor | None,
    ) -> Iterator[Task]:
        check_shapes(given.inputs, given.labels, keys=keys, initial=initial, targets=given.targets)
        if self.goal == "kl_to_clean" and self.start == "none" and initial is None and self.steps:
            raise UsageError("attack.start=none: kl_to_clean has no gradient at x itself; use attack.start=normal")
        if not isinstance(scale, Tensor) and not 0.0 <= scale <= 1.0:
            raise ValueError(f"scale is a share of ε in [0, 1], got {scale}")
        with undisturbed(given.model, given.teacher, mode=self.model_mode, device=given.inputs.device, seed=seed):
            # what was made under inference_mode may not enter a graph: it is copied, outside of that mode
            inputs = normal_tensor(given.inputs)
            factor = per_sample(lift(normal_tensor(scale)), inputs) if isinstance(scale, Tensor) else scale
            unit = self.threat.unit(inputs) * factor
            radius = float(self.threat.eps) * unit
            exact = asked(given.model, inputs, self.threat, radius)
            target = Target(
                model=exact,
                inputs=lift(inputs),
                labels=normal_tensor(given.labels).long(),
                teacher=None if given.teacher is None else asked(given.teacher, inputs, self.threat, radius),
                teacher_logits=given.teacher_logits,
                targets=None if given.targets is None else normal_tensor(given.targets).long(),
            )
            if validate:
                check_inputs(inputs, target.labels, self.threat.bounds)
                check_logits(clean_logits(target.model, target.inputs), target.labels)
            target = self._fast(target)
            yield Task(
                target=target,
                exact=exact,
                climb=self._bind(target),
                bind=self._bind,
                sign=-1.0 if self.targeted else 1.0,
                keys=default_keys(target.inputs) if keys is None else normal_tensor(keys).to(target.inputs.device),
                seed=seed,
                scale=factor,
                radius=radius,
                size=self.step_size * unit,
                initial=None if initial is None else lift(normal_tensor(initial)),
                survived=survived,
            )

    def _fast(self, target: Target) -> Target:
        """The same, with the forms of model and teacher that are climbed."""
        teacher = target.teacher
        if teacher is not None and self.goal in NEED_LIVE_TEACHER:
            teacher = climbed(teacher, self.precision, target.inputs, compiled=self.compile)
        model = target.model
        if self.model_mode == "eval":
            model = climbed(model, self.precision, target.inputs, compiled=self.compile)
        if model is target.model and teacher is target.teacher:
            return target
        return replace(target, model=model, teacher=teacher)

    def _search(self, ascent: Task, restart: int) -> AttackResult:
        if self.keep == "fooling":
            start, _ = self._begin(ascent, restart)
            return hunt(self.threat, ascent, start, steps=self.steps, exact_steps=self.exact_steps)
        track: list[Track] = []
        self._walk(ascent, restart, track)
        (found,) = track
        if ascent.target.model is not ascent.exact:
            exact = look(ascent.exact, ascent.climb, found.point, sign=ascent.sign)
            found.take(found.point, *exact)
        return AttackResult(
            adversarial=found.point,
            goal_start=found.begun,
            goal_end=found.value,
            fooled=ascent.fooled(found.logits, torch.arange(len(found.logits), device=found.logits.device)),
        )

    def _walk(self, ascent: Task, restart: int, track: list[Track] | None = None) -> Tensor:
        """The loop. A list given as `track` receives the answer and what it is worth."""
        point, inside = self._begin(ascent, restart)

        def noise(step: int) -> int:
            return address(ascent.seed, "model noise", restart, step) if self.eot > 1 else 0

        if track is not None and not inside:
            # a start outside the threat model cannot be the answer: what counts is where projection puts it
            admitted = self.threat.project(point, ascent.target.inputs, ascent.radius)
            track.append(Track.begin(admitted, *self._look(ascent, admitted, noise(-1))))
        velocity = torch.zeros_like(point) if self.momentum else None
        reads_sign = velocity is None and self.threat.norm == "linf"
        if ascent.survived is not None:
            ascent.survived.zero_()
        for step in range(self.steps):
            if track is None and self.eot == 1:
                logits, gradient = uphill(ascent.target.model, ascent.climb, point, sign=ascent.sign)
                if not reads_sign:
                    gradient = gradient.nan_to_num(nan=0.0)
            else:
                value, logits, gradient = slope(
                    ascent.target.model, ascent.climb, point, sign=ascent.sign, draws=self.eot, seed=noise(step)
                )
            if ascent.survived is not None:
                ascent.survived.add_(logits.argmax(dim=1) == ascent.target.labels)
            if track is not None:
                if not track:
                    track.append(Track.begin(point, value, logits))
                elif step and self.keep == "best":
                    track[0].consider(point, value, logits)
            if velocity is not None:
                size = gradient.flatten(1).abs().sum(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
                velocity = self.momentum * velocity + gradient / per_sample(size, gradient)
            direction = gradient if velocity is None else velocity
            point = self.threat.ascend(point, direction, ascent.target.inputs, ascent.size, ascent.radius)
        if not self.steps and not inside:
            point = self.threat.project(point, ascent.target.inputs, ascent.radius)
        if track is not None:
            last = (point, *self._look(ascent, point, noise(self.steps)))
            if not track:
                track.append(Track.begin(*last))
            elif self.keep == "best":
                track[0].consider(*last)
            else:
                track[0].take(*last)
        return point

    def _begin(self, ascent: Task, restart: int) -> tuple[Tensor, bool]:
        """Where a restart begins, and whether that is certain to lie in ball and box."""
        if ascent.initial is not None and restart == 0:
            return ascent.initial.clone(), False
        seed = address(ascent.seed, "start", restart)
        point = self.threat.random_start(ascent.target.inputs, self.start, ascent.keys, seed=seed, scale=ascent.scale)
        return point, self.start in ("none", "uniform")

    def _look(self, ascent: Task, point: Tensor, at: int) -> tuple[Tensor, Tensor]:
        return look(ascent.target.model, ascent.climb, point, sign=ascent.sign, draws=self.eot, seed=at)
