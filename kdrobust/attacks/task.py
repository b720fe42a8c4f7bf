"""One batch to attack by gradient: whom, what to climb, from where, how far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, is_wrong
from kdrobust.attacks.goals import Climb, Target
from kdrobust.attacks.half import of_rows


@dataclass(frozen=True, kw_only=True)
class Task:
    """One batch to attack.

    Attributes:
        target: what the goal looks at; its model is the form that is climbed.
        exact: the model whose verdict counts.
        bind: binds the goal to a target.
        climb: the goal, bound to this one.
        sign: -1 descends: the attack is targeted.
        keys: [B] int64, each sample's address.
        seed: address of the random numbers.
        scale: factor on ε and step, or one a sample as [B, 1, 1, ...].
        radius: ε, as `scale`.
        size: step size, as `scale`.
        initial: where the first restart begins, [B, ...]; None: at a random start.
        survived: [B], to be filled with the steps at whose beginning the sample was answered with its label.
    """

    target: Target
    exact: Model
    bind: Callable[[Target], Climb]
    climb: Climb
    sign: float
    keys: Tensor
    seed: int
    scale: float | Tensor
    radius: float | Tensor
    size: float | Tensor
    initial: Tensor | None
    survived: Tensor | None = None

    def rows(self, rows: Tensor) -> Task:
        """The same of some samples, from random starts."""
        target = self.target.rows(rows)
        exact = target.model if self.exact is self.target.model else of_rows(self.exact, rows)

        def pick(value: float | Tensor) -> float | Tensor:
            return value[rows] if isinstance(value, Tensor) else value

        return replace(
            self,
            target=target,
            exact=exact,
            climb=self.bind(target),
            keys=self.keys[rows],
            scale=pick(self.scale),
            radius=pick(self.radius),
            size=pick(self.size),
            initial=None,
            survived=None if self.survived is None else torch.zeros_like(self.survived[rows]),
        )

    def fooled(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Whether such answers are what the attack wants, [b] bool.

        Args:
            logits: of some samples, [b, K].
            rows: their places, [b].
        """
        wanted = self.target.labels[rows]
        if self.sign > 0:
            return is_wrong(logits, wanted)
        return (logits.argmax(dim=1) == wanted) & ~logits.isnan().any(dim=1)
