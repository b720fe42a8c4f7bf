"""The callback that crafts each training batch's adversarial view."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from kdrobust.attacks.gradient import GradientAttack
from kdrobust.attacks.none import NoAttack
from kdrobust.data.batch import Batch


class AttackCallback(pl.Callback):
    """Sets `batch.adversarial` before each training step, if the method looks at it.

    Args:
        attack: the inner maximisation.
        warmup: share of the training, in [0, 1), over which ε and step grow linearly from 0. Small students that meet
            the full ε at once may collapse to one class; 0 switches it off.

    Raises:
        ValueError: `warmup` outside [0, 1).
    """

    def __init__(self, *, attack: GradientAttack | NoAttack, warmup: float = 0.0) -> None:
        if not 0.0 <= warmup < 1.0:
            raise ValueError(f"warmup is a share of the training in [0, 1), got {warmup}")
        self.attack = attack
        self.warmup = warmup
        self._checked = False
        self._climbed: str | None = None

    def scale(self, exact_epoch: float, epochs: int) -> float:
        """Factor on ε at a point of the training, in [0, 1]."""
        length = self.warmup * epochs
        return 1.0 if length <= 0 else min(1.0, exact_epoch / length)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Craft x' with the current weights."""
        if not pl_module.objective.needs_attack:
            return
        scale = self.scale(pl_module.exact_epoch, trainer.max_epochs or 1)
        with trainer.precision_plugin.forward_context():
            if pl_module.objective.needs_survival:
                batch.survived = torch.zeros(len(batch), device=batch.inputs.device)
            batch.adversarial = pl_module.craft(
                self.attack, batch, where=trainer.current_epoch, scale=scale, validate=not self._checked
            )
        if not self._checked and isinstance(self.attack, GradientAttack):
            self._climbed = self.attack.climbs(pl_module.model)
        self._checked = True

    def describe(self) -> dict[str, Any]:
        """The attack's settings, and as `climbed` what `precision` came to on this machine, once it has attacked."""
        return self.attack.describe() | ({"climbed": self._climbed} if self._climbed else {})
