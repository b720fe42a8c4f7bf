"""Goals: what an attack climbs. Pure functions of logits, [B], and by the same names what binds them to a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.errors import UsageError
from kdrobust.losses.numerics import kl_per_class, lift

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
    """

    model: Callable[[Tensor], Tensor]
    inputs: Tensor
    labels: Tensor
    teacher: Callable[[Tensor], Tensor] | None = None
    teacher_logits: Tensor | Callable[[], Tensor] | None = None

    def teacher_on_clean(self) -> Tensor:
        """T(x), [B, K], without graph.

        Raises:
            UsageError: there is no teacher.
        """
        if isinstance(self.teacher_logits, Tensor):
            return self.teacher_logits.detach()
        with torch.no_grad():
            if callable(self.teacher_logits):
                return self.teacher_logits().detach()
            if self.teacher is not None:
                return self.teacher(self.inputs).detach()
        raise UsageError("attack.goal: it climbs a divergence from a teacher, but there is none; use cross_entropy")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the labels, [B]."""
    return F.cross_entropy(lift(logits), labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Carlini-Wagner margin $\max_{j \ne y} z_j - z_y$, [B]; positive where the model is wrong. Never saturates.

    Source: Carlini & Wagner, S&P 2017, arXiv:1608.04644, f₆ without its floor.
    """
    values = lift(logits)
    own = values.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = values.masked_fill(F.one_hot(labels, values.shape[1]).bool(), float("-inf"))
    return others.amax(dim=1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Difference of logits ratio $-(z_y - \max_{i \ne y} z_i) / (z_{\pi_1} - z_{\pi_3} + 10^{-12})$, [B].

    Invariant to shift and scale of the logits. Needs at least three classes.

    Raises:
        UsageError: fewer than three classes.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, eq. 6.
    """
    if logits.shape[1] < 3:
        raise UsageError(f"attack.goal=dlr: needs at least 3 classes, the model has {logits.shape[1]}; use margin")
    values = lift(logits)
    ordered = values.sort(dim=1, descending=True).values
    return margin(values, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def kl(target: Tensor, logits: Tensor) -> Tensor:
    r"""$\mathrm{KL}(\sigma(t) \,\|\, \sigma(z))$, [B], summed over the classes; gradient through both arguments."""
    return kl_per_class(lift(target), lift(logits)).sum(dim=1)


def _of_labels(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Target], Climb]:
    def bind(target: Target) -> Climb:
        return lambda adversarial, logits: function(logits, target.labels)

    return bind


def _kl_to_teacher(target: Target) -> Climb:
    fixed = target.teacher_on_clean()
    return lambda adversarial, logits: kl(fixed, logits)


def _kl_to_live_teacher(target: Target) -> Climb:
    teacher = target.teacher
    if teacher is None:
        raise UsageError("attack.goal=kl_to_live_teacher: needs a live teacher; set teacher.checkpoint")
    return lambda adversarial, logits: kl(teacher(adversarial), logits)


def _kl_to_clean(target: Target) -> Climb:
    with torch.no_grad():
        fixed = target.model(target.inputs).detach()
    return lambda adversarial, logits: kl(fixed, logits)


#: Name of a goal to what binds it to a batch.
GOALS: Mapping[str, Callable[[Target], Climb]] = {
    "cross_entropy": _of_labels(cross_entropy),
    "margin": _of_labels(margin),
    "dlr": _of_labels(dlr),
    "kl_to_teacher": _kl_to_teacher,
    "kl_to_live_teacher": _kl_to_live_teacher,
    "kl_to_clean": _kl_to_clean,
}
#: Goals that ask the teacher about attacked inputs, and all that ask it at all.
NEED_LIVE_TEACHER = ("kl_to_live_teacher",)
NEED_TEACHER = ("kl_to_teacher", *NEED_LIVE_TEACHER)


def find_goal(name: str | Callable[[Target], Climb]) -> Callable[[Target], Climb]:
    """A goal by its name; a function that binds to a `Target` is taken as it is.

    Raises:
        UsageError: no goal of that name.
    """
    if not isinstance(name, str):
        return name
    if name not in GOALS:
        import difflib

        near = difflib.get_close_matches(name, GOALS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(GOALS)}"
        raise UsageError(f"attack.goal={name}: no such goal; {hint}")
    return GOALS[name]


def describe_goal(goal: Any) -> str:
    """A goal's name, for result files."""
    return goal if isinstance(goal, str) else getattr(goal, "__qualname__", type(goal).__name__)
