"""Validation under attack, and the warnings that come of it."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl

from kdrobust.attacks import GradientAttack, NoAttack, check_answers
from kdrobust.data.batch import Batch

_log = logging.getLogger(__name__)
#: The epoch number validation starts are drawn at: the same noise every epoch, so that epochs can be compared.
VALIDATION = -1


class RobustValidation(pl.Callback):
    """Attacks each validation batch, so that `val/robust_accuracy` can drive checkpoints, stopping and learning rate.

    Args:
        attack: the evaluation attack; it climbs cross-entropy whatever the training attack climbs.
    """

    def __init__(self, *, attack: GradientAttack | NoAttack) -> None:
        self.attack = attack

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the batch's adversarial inputs.

        Raises:
            AttackError: they hold NaN.
        """
        with trainer.precision_plugin.forward_context():
            batch.adversarial = pl_module.craft(self.attack, batch, where=VALIDATION)
        check_answers(batch.adversarial, attack="validation")


class CollapseWarning(pl.Callback):
    """Warns when a model answers at chance level: about one in five tiny adversarially trained students ends there.

    Args:
        patience: epochs at chance before the warning.
        begin: share of the training before which chance is no news.

    Attributes:
        messages: what was said; results carry it on.
    """

    def __init__(self, *, patience: int = 3, begin: float = 0.3) -> None:
        self.patience = patience
        self.begin = begin
        self.messages: list[str] = []
        self._epochs_at_chance = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare clean validation accuracy with chance plus two standard errors."""
        accuracy = trainer.callback_metrics.get("val/accuracy")
        early = trainer.current_epoch + 1 < self.begin * (trainer.max_epochs or 1)
        if accuracy is None or trainer.sanity_checking or early:
            return
        classes = int(pl_module.payload["spec"]["classes"])
        chance = 1.0 / classes
        samples = max(1, len(trainer.datamodule.split("validation").labels))  # type: ignore[attr-defined]
        limit = chance + 2.0 * math.sqrt(chance * (1.0 - chance) / samples)
        self._epochs_at_chance = self._epochs_at_chance + 1 if float(accuracy) <= limit else 0
        if self._epochs_at_chance == self.patience:
            message = (
                f"collapse: validation accuracy {float(accuracy):.1%} has been at chance ({chance:.1%}) for "
                f"{self.patience} epochs; try another seed, callbacks.attack.warmup=0.5, a lower optimizer.lr or a "
                "smaller threat.eps"
            )
            self.messages.append(message)
            _log.warning(message)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting."""
        return {"epochs_at_chance": self._epochs_at_chance, "messages": list(self.messages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._epochs_at_chance = int(state_dict["epochs_at_chance"])
        self.messages = list(state_dict["messages"])
