"""The callback that crafts each training batch's adversarial view."""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch

from kdrobust.attacks.gradient import GradientAttack
from kdrobust.attacks.none import NoAttack
from kdrobust.data.batch import Batch

#: In units of ε: the step at which one-step training is at its best (Wong et al. 2020, arXiv:2001.03994).
_LONGEST_STEP = 1.25


class AttackCallback(pl.Callback):
    """Sets `batch.adversarial` before each training step, if the method looks at it.

    Args:
        attack: the inner maximisation.
        warmup: share of the training, in [0, 1), over which ε and step grow linearly from 0. Small students that meet
            the full ε at once may collapse to one class; 0 switches it off.
        growth: share of the training, in [0, 1], over which the number of steps grows linearly from `first_steps` to
            the attack's own K; early in the training a weak attack finds what a strong one would. k steps are
            min(α·K / k, 5/4·ε) long, so that few steps reach as far as many. 0: K steps from the beginning.
        first_steps: k at the beginning, 1 or more; nothing where the attack itself has fewer.

    Raises:
        ValueError: `warmup` outside [0, 1), `growth` outside [0, 1], or `first_steps` below 1.
    """

    def __init__(
        self, *, attack: GradientAttack | NoAttack, warmup: float = 0.0, growth: float = 0.0, first_steps: int = 2
    ) -> None:
        if not 0.0 <= warmup < 1.0:
            raise ValueError(f"warmup is a share of the training in [0, 1), got {warmup}")
        if not 0.0 <= growth <= 1.0:
            raise ValueError(f"growth is a share of the training in [0, 1], got {growth}")
        if first_steps < 1:
            raise ValueError(f"first_steps is a number of steps >= 1, got {first_steps}")
        self.attack = attack
        self.warmup = warmup
        self.growth = growth
        self.first_steps = first_steps
        self._checked = False
        self._climbed: str | None = None

    def scale(self, exact_epoch: float, epochs: int) -> float:
        """Factor on ε at a point of the training, in [0, 1]."""
        length = self.warmup * epochs
        return 1.0 if length <= 0 else min(1.0, exact_epoch / length)

    def attack_at(self, exact_epoch: float, epochs: int) -> GradientAttack | NoAttack:
        """The attack of a point of the training: the configured one, or one of fewer and longer steps."""
        attack, length = self.attack, self.growth * epochs
        if isinstance(attack, NoAttack) or exact_epoch >= length or attack.steps <= self.first_steps:
            return attack
        shorter = copy.copy(attack)
        shorter.steps = self.first_steps + int((attack.steps - self.first_steps) * exact_epoch / length)
        reach = attack.step_size * attack.steps / shorter.steps
        shorter.step_size = min(reach, max(_LONGEST_STEP * float(attack.threat.eps), attack.step_size))
        return shorter

    def describe(self) -> dict[str, Any]:
        """The attack's settings and the schedule's, and as `climbed` what `precision` came to, once it has attacked."""
        schedule = {"warmup": self.warmup, "growth": self.growth, "first_steps": self.first_steps}
        climbed = {"climbed": self._climbed} if self._climbed else {}
        return {**self.attack.describe(), **schedule, **climbed}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run could not say of itself."""
        return {"climbed": self._climbed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._climbed = state_dict["climbed"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Craft x' with the current weights."""
        if not pl_module.objective.needs_attack:
            return
        epoch, epochs = pl_module.exact_epoch, trainer.max_epochs or 1
        scale = self.scale(epoch, epochs)
        # a weight by the steps survived compares samples of the whole training: all had the same number of steps
        attack = self.attack if pl_module.objective.needs_survival else self.attack_at(epoch, epochs)
        with trainer.precision_plugin.forward_context():
            if pl_module.objective.needs_survival:
                batch.survived = torch.zeros(len(batch), device=batch.inputs.device)
            batch.adversarial = pl_module.craft(
                attack, batch, where=trainer.current_epoch, scale=scale, validate=not self._checked
            )
        if not self._checked and isinstance(self.attack, GradientAttack):
            self._climbed = self.attack.climbs(pl_module.model)
        self._checked = True
