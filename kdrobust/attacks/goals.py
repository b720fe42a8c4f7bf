"""Goals: what an attack climbs. Pure functions of logits, [B], and by the same names what binds them to a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.attacks.half import of_rows
from kdrobust.errors import UsageError
from kdrobust.losses.numerics import check_temperature, kl_per_class, lift

#: Called with (x' [B, ...], the model's logits on it [B, K]); what is climbed, [B].
Climb = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a goal may look at.

    Attributes:
        model: the model under attack, inputs to logits.
        inputs: clean x, [B, ...].
        labels: [B] int64: the true classes, or the wanted ones of a targeted attack.
        teacher: the teacher, inputs to logits; None where there is none.
        teacher_logits: the teacher's logits on x, [B, K], or a function that computes them when asked.
        targets: [B] int64, wanted classes to weigh against the true ones; None: each sample's likeliest other class.
    """

    model: Callable[[Tensor], Tensor]
    inputs: Tensor
    labels: Tensor
    teacher: Callable[[Tensor], Tensor] | None = None
    teacher_logits: Tensor | Callable[[], Tensor] | None = None
    targets: Tensor | None = None

    def rows(self, rows: Tensor) -> Target:
        """The same of some samples."""
        known = self.teacher_logits

        def asked() -> Tensor:
            return self.teacher_on_clean()[rows]

        return replace(
            self,
            model=of_rows(self.model, rows),
            teacher=None if self.teacher is None else of_rows(self.teacher, rows),
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            teacher_logits=None if known is None else asked,
            targets=None if self.targets is None else self.targets[rows],
        )

    def teacher_on_clean(self) -> Tensor:
        """T(x), [B, K], without graph.

        Raises:
            UsageError: there is no teacher.
        """
        with torch.no_grad():
            if isinstance(self.teacher_logits, Tensor):
                return normal_tensor(self.teacher_logits)
            if callable(self.teacher_logits):
                return normal_tensor(self.teacher_logits())
            if self.teacher is not None:
                return normal_tensor(self.teacher(self.inputs))
        raise UsageError(
            "attack.goal=kl_to_teacher: there is no teacher; set teacher.checkpoint, or attack.goal=cross_entropy"
        )


def normal_tensor(values: Tensor) -> Tensor:
    """Without graph; a copy where it was made under `inference_mode`, which no graph may hold."""
    return values.detach().clone() if values.is_inference() else values.detach()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the labels, [B].

    Args:
        logits: [B, K].
        labels: [B] int64.
    """
    return F.cross_entropy(lift(logits), labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Carlini-Wagner margin $\max_{j \ne y} z_j - z_y$, [B]; positive where the model is wrong. Never saturates.

    Args:
        logits: [B, K].
        labels: [B] int64.

    Source: Carlini & Wagner, S&P 2017, arXiv:1608.04644, f₆ without its floor.
    """
    values = lift(logits)
    at = labels.unsqueeze(1)
    # -∞, not a product with a one-hot mask: the best other logit may be negative
    others = values.scatter(1, at, float("-inf"))
    return others.amax(dim=1) - values.gather(1, at).squeeze(1)


def margin_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    r"""How far the wanted class leads the true one, $z_t - z_y$, [B].

    Args:
        logits: [B, K].
        labels: [B] int64, the true classes y.
        targets: [B] int64, the wanted classes t.
    """
    values = lift(logits)
    own, wanted = (values.gather(1, at.unsqueeze(1)).squeeze(1) for at in (labels, targets))
    return wanted - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Difference of logits ratio $-(z_y - \max_{i \ne y} z_i) / (z_{\pi_1} - z_{\pi_3} + 10^{-12})$, [B].

    Invariant to shift and scale of the logits. π sorts the logits downwards.

    Args:
        logits: [B, K], K >= 3.
        labels: [B] int64.

    Raises:
        UsageError: fewer than three classes.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, eq. 6.
    """
    if logits.shape[1] < 3:
        raise UsageError(f"attack.goal=dlr: needs at least 3 classes, the model has {logits.shape[1]}; use margin")
    values = lift(logits)
    ordered = values.topk(3, dim=1).values
    return margin(values, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    r"""Targeted difference of logits ratio $-(z_y - z_t) / (z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2 + 10^{-12})$, [B].

    It is climbed: the higher, the closer to the wanted class.

    Args:
        logits: [B, K], K >= 4.
        labels: [B] int64, the true classes y.
        targets: [B] int64, the wanted classes t.

    Raises:
        UsageError: fewer than four classes.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, eq. 7.
    """
    if logits.shape[1] < 4:
        raise UsageError(
            f"attack.goal=dlr_targeted: needs at least 4 classes, the model has {logits.shape[1]}; use margin"
        )
    ordered = lift(logits).topk(4, dim=1).values
    return margin_targeted(logits, labels, targets) / (ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12)


def kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""$\mathrm{KL}(\sigma_\tau(t) \,\|\, \sigma_\tau(z))$, [B], summed over the classes; gradient through both.

    Without the factor τ² of the losses: no step rule sees it.

    Args:
        target: logits of the target, [B, K].
        logits: [B, K].
        temperature: τ > 0.
    """
    return kl_per_class(lift(target) / temperature, lift(logits) / temperature).sum(dim=1)


class KLToFixed:
    """`kl` to a target that stays, to the last bit; its softmax is taken once and not at every step.

    Args:
        target: logits without graph, [B, K].
        temperature: τ > 0.
    """

    def __init__(self, target: Tensor, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self._log_target = self._log(target)
        self._probability = self._log_target.exp()
        self._derivative = -self._probability

    def __call__(self, adversarial: Tensor, logits: Tensor) -> Tensor:
        """The divergence, [B]; `adversarial` is not looked at."""
        return (self._probability * (self._log_target - self._log(logits))).sum(dim=1)

    def pull(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        r"""What the divergence is linear in, $\log q$ [B, K], and its derivative by that, $-p$ [B, K].

        The gradient through these is the divergence's own, to the last bit, for a third of the operations.
        """
        log = self._log(logits)
        return log, self._derivative.to(log.dtype)

    def _log(self, logits: Tensor) -> Tensor:
        values = lift(logits)
        # a division by 1 changes no bit, but takes its time forward and backward
        return F.log_softmax(values if self.temperature == 1.0 else values / self.temperature, dim=1)


def kl_to_teacher(target: Target, *, temperature: float = 1.0) -> Climb:
    """Climb KL(T(x) ‖ S(x')), T(x) fixed.

    Source: RSLAD, Zi et al., ICCV 2021, arXiv:2108.07969.
    """
    check_temperature(temperature)
    return KLToFixed(target.teacher_on_clean(), temperature)


def kl_to_live_teacher(target: Target, *, temperature: float = 1.0) -> Climb:
    """Climb KL(T(x') ‖ S(x')); the gradient flows through the teacher too.

    Raises:
        UsageError: there is no teacher that answers.

    Source: AdaAD, Huang et al., CVPR 2023.
    """
    check_temperature(temperature)
    teacher = target.teacher
    if teacher is None:
        raise UsageError(
            "attack.goal=kl_to_live_teacher: there is no teacher to ask about x'; set teacher.checkpoint "
            "(stored outputs do not suffice)"
        )
    return lambda adversarial, logits: kl(teacher(adversarial), logits, temperature)


def kl_to_linear_teacher(target: Target, *, temperature: float = 1.0, strength: float = 1.0) -> Climb:
    r"""Climb KL(T̃(x') ‖ S(x')), T̃ the teacher on x with its label logit moved along its own gradient.

    $\tilde t_y(x') = t_y(x) + \lambda\, \nabla_x t_y(x)^\top (x' - x)$: the teacher's answer to x' to first order, for
    one teacher pass in all. The gradient flows through T̃ and S.

    Raises:
        UsageError: there is no teacher that answers.

    Source: SAAD, Lee et al. 2026, arXiv:2512.10275 (λ = 1 in the official code).
    """
    check_temperature(temperature)
    if target.teacher is None:
        raise UsageError(
            "attack.goal=kl_to_linear_teacher: there is no teacher to ask for its gradient; set teacher.checkpoint "
            "(stored outputs do not suffice)"
        )
    at = target.labels.unsqueeze(1)
    pixels = target.inputs.detach().clone().requires_grad_(True)
    logits = target.teacher(pixels)
    (slope,) = torch.autograd.grad(logits.gather(1, at).sum(), pixels)
    fixed = lift(logits.detach())

    def climb(adversarial: Tensor, logits: Tensor) -> Tensor:
        change = ((adversarial - target.inputs) * slope).flatten(1).sum(dim=1, keepdim=True)
        return kl(fixed.scatter_add(1, at, strength * change.to(fixed.dtype)), logits, temperature)

    return climb


def kl_to_clean(target: Target, *, temperature: float = 1.0) -> Climb:
    """Climb KL(S(x) ‖ S(x')), S(x) computed once in the attack's mode. At x itself its gradient is zero.

    Source: TRADES, Zhang et al., ICML 2019, arXiv:1901.08573.
    """
    check_temperature(temperature)
    with torch.no_grad():
        fixed = target.model(target.inputs).detach()
    return KLToFixed(fixed, temperature)


def likeliest_others(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The classes but the label, the likeliest first, [B, min(count, K - 1)] int64.

    Args:
        logits: [B, K].
        labels: [B] int64.
        count: how many at most.
    """
    others = logits.scatter(1, labels.unsqueeze(1), float("-inf"))
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def _of_labels(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Target], Climb]:
    def bind(target: Target) -> Climb:
        return lambda adversarial, logits: function(logits, target.labels)

    return bind


def _of_targets(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Target], Climb]:
    def bind(target: Target) -> Climb:
        targets = target.targets
        if targets is None:
            with torch.no_grad():
                logits = target.model(target.inputs)
            targets = likeliest_others(logits, target.labels, 1).squeeze(1)
        return lambda adversarial, logits: function(logits, target.labels, targets)

    return bind


#: Name of a goal to what binds it to a batch.
GOALS: Mapping[str, Callable[[Target], Climb]] = {
    "cross_entropy": _of_labels(cross_entropy),
    "margin": _of_labels(margin),
    "dlr": _of_labels(dlr),
    "dlr_targeted": _of_targets(dlr_targeted),
    "margin_targeted": _of_targets(margin_targeted),
    "kl_to_teacher": kl_to_teacher,
    "kl_to_live_teacher": kl_to_live_teacher,
    "kl_to_linear_teacher": kl_to_linear_teacher,
    "kl_to_clean": kl_to_clean,
}
#: Goals that ask the teacher about attacked inputs.
NEED_LIVE_TEACHER = ("kl_to_live_teacher", "kl_to_linear_teacher")
#: Goals that aim at a class of `Target.targets`.
NEED_TARGETS = ("dlr_targeted", "margin_targeted")


#: Goals that weigh several logits: the least number of classes, and what is climbed where there are fewer.
_LEAST_CLASSES = {"dlr": (3, "margin"), "dlr_targeted": (4, "margin_targeted")}


def defined_goal(goal: Any, classes: int) -> Any:
    """A goal, or what stands in for it where it is not defined for so few classes.

    Args:
        goal: see `find_goal`.
        classes: K.
    """
    least, stand_in = _LEAST_CLASSES.get(goal, (0, goal)) if isinstance(goal, str) else (0, goal)
    return goal if classes >= least else stand_in


def find_goal(name: str | Callable[[Target], Climb]) -> Callable[[Target], Climb]:
    """A goal by its name; a function that binds to a `Target` is taken as it is.

    Raises:
        UsageError: no goal of that name.
    """
    if not isinstance(name, str):
        if not callable(name):
            raise UsageError(f"attack.goal={name!r}: expected a name ({', '.join(GOALS)}) or a function of a Target")
        return name
    if name not in GOALS:
        import difflib

        near = difflib.get_close_matches(name, GOALS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(GOALS)}"
        raise UsageError(f"attack.goal={name}: no such goal; {hint}")
    return GOALS[name]


def describe_goal(goal: Any) -> str:
    """A goal's name with its settings, for result files: `kl_to_teacher(temperature=4)`."""
    if isinstance(goal, partial):
        settings = ", ".join(f"{key}={value}" for key, value in sorted(goal.keywords.items()))
        return f"{describe_goal(goal.func)}({settings})"
    return goal if isinstance(goal, str) else getattr(goal, "__qualname__", type(goal).__name__)
