"""What an attack found, and which of two findings is the better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kdrobust.attacks.threat import per_sample


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: x', [B, ...].
        goal_start: what was climbed (targeted: the goal's negative) where the kept restart began, [B].
        goal_end: the same at x', [B].
        fooled: whether x' is answered wrongly (targeted: with the wanted class), [B] bool.
        extra: further numbers a sample by name, each [B]: queries asked, the attack that broke it ...
        notes: what the attack itself warns of, one line each.
    """

    adversarial: Tensor
    goal_start: Tensor
    goal_end: Tensor
    fooled: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def higher(value: Tensor, than: Tensor) -> Tensor:
    """Where `value` beats `than`, [B] bool. A NaN is beaten by every number and beats none."""
    return (value > than) | (than.isnan() & ~value.isnan())


def better_of(first: AttackResult, second: AttackResult) -> AttackResult:
    """Per sample the result that fools, and of two that both do or both don't, the one with the higher goal."""
    wins = (second.fooled & ~first.fooled) | ((second.fooled == first.fooled) & higher(second.goal_end, first.goal_end))
    return AttackResult(
        adversarial=torch.where(per_sample(wins, first.adversarial), second.adversarial, first.adversarial),
        goal_start=torch.where(wins, second.goal_start, first.goal_start),
        goal_end=torch.where(wins, second.goal_end, first.goal_end),
        fooled=torch.where(wins, second.fooled, first.fooled),
        extra={name: torch.where(wins, second.extra[name], first.extra[name]) for name in first.extra},
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def pick(result: AttackResult, rows: Tensor) -> AttackResult:
    """The results of some samples."""
    return AttackResult(
        adversarial=result.adversarial[rows],
        goal_start=result.goal_start[rows],
        goal_end=result.goal_end[rows],
        fooled=result.fooled[rows],
        extra={name: values[rows] for name, values in result.extra.items()},
        notes=result.notes,
    )


def improve(result: AttackResult, rows: Tensor, part: AttackResult) -> AttackResult:
    """The results of all, with those of some samples where they are better.

    Args:
        result: of all samples, [B].
        rows: places of some, [b].
        part: what was found for these, [b]; without further numbers.
    """
    better = better_of(pick(replace(result, extra={}), rows), part)
    return AttackResult(
        adversarial=result.adversarial.index_copy(0, rows, better.adversarial),
        goal_start=result.goal_start.index_copy(0, rows, better.goal_start.to(result.goal_start.dtype)),
        goal_end=result.goal_end.index_copy(0, rows, better.goal_end.to(result.goal_end.dtype)),
        fooled=result.fooled.index_copy(0, rows, better.fooled),
        extra=result.extra,
        notes=better.notes,
    )


@dataclass(kw_only=True)
class Track:
    """The answer so far on one path: what was climbed where it began, and the iterate to return.

    Attributes:
        begun: the climbed value at the start, [B].
        point: the answer, [B, ...].
        value: the climbed value there, [B].
        logits: the model's outputs there, [B, K].
    """

    begun: Tensor
    point: Tensor
    value: Tensor
    logits: Tensor

    @classmethod
    def begin(cls, point: Tensor, value: Tensor, logits: Tensor) -> Track:
        """The start is the first answer."""
        return cls(begun=value, point=point, value=value, logits=logits)

    def consider(self, point: Tensor, value: Tensor, logits: Tensor) -> None:
        """Take an iterate where it is higher."""
        wins = higher(value, self.value)
        self.take(
            torch.where(per_sample(wins, point), point, self.point),
            torch.where(wins, value, self.value),
            torch.where(wins.unsqueeze(1), logits, self.logits),
        )

    def take(self, point: Tensor, value: Tensor, logits: Tensor) -> None:
        """Take an iterate as it is."""
        self.point, self.value, self.logits = point, value, logits
