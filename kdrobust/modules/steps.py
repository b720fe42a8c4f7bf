"""How many optimiser steps and validations a training has come to, held against what its settings say."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from kdrobust.errors import KdrobustError

_log = logging.getLogger(__name__)


class IncompleteTrainingError(KdrobustError):
    """A training that took another number of steps or validations than its settings say."""


def is_over(trainer: pl.Trainer) -> bool:
    """Whether training ends with this step: by `max_steps`, by `max_time`, or because a callback asked for it."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    return bool(trainer.should_stop) and bool(trainer.fit_loop._can_stop_early)


class StepCount(pl.Callback):
    """Counts the optimiser steps and validations of every epoch, and refuses a training that fell short of them.

    An epoch of N batches takes ⌈N / A⌉ steps, where A batches make a step (`accumulate_grad_batches`), and a
    validation every `val_check_interval` batches in each `check_val_every_n_epoch`-th epoch. A step that `NonFinite` or
    a gradient scaler leaves out counts: its batches were seen. An epoch may be shorter only where `max_steps`,
    `max_time` or a callback ends the training in it; it then ends with a validation, so that its weights are measured
    like those of any other epoch.

    Raises:
        IncompleteTrainingError: the numbers differ.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._validations = 0
        self._total = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count anew."""
        self._steps = self._validations = 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Count a step."""
        self._steps += 1
        self._total += 1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let `max_steps` end the training the way `max_time` does: Lightning validates what a request has ended."""
        if is_over(trainer):
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count a validation."""
        self._validations += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the epoch's numbers with what was due."""
        due = steps_of_an_epoch(trainer)
        epoch = trainer.current_epoch + 1
        if is_over(trainer):
            # it may have been asked for at the epoch's last step, or before it
            self._compare("optimiser steps", epoch, self._steps, range(1, due + 1))
            return
        self._compare("optimiser steps", epoch, self._steps, range(due, due + 1))
        validations = validations_of_an_epoch(trainer)
        self._compare("validations", epoch, self._validations, range(validations, validations + 1))

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the training's numbers, and say why it ended where it ended early."""
        ended, epochs, step = trainer.current_epoch, trainer.max_epochs, trainer.global_step
        self._compare("optimiser steps in all", ended, self._total, range(step, step + 1))
        if ended == epochs and self._steps == steps_of_an_epoch(trainer):
            return
        if not is_over(trainer):
            raise IncompleteTrainingError(
                f"training ended after {ended} of {epochs} epochs, and nothing asked for it; please report this with "
                "the command"
            )
        limit = trainer.max_steps
        reason = f"trainer.max_steps={limit}" if 0 <= limit <= step else "a callback or trainer.max_time asked for it"
        if trainer.is_global_zero:
            _log.info("training ended in epoch %d of %d, after step %d: %s", ended, epochs, step, reason)

    def _compare(self, what: str, epoch: int, found: int, due: range) -> None:
        if found not in due:
            expected = f"{due.start}" if len(due) == 1 else f"{due.start} to {due.stop - 1}"
            raise IncompleteTrainingError(
                f"epoch {epoch}: {found} {what} where {expected} were due; the weights are not those of the training "
                "that was asked for; please report this with the command"
            )

    def state_dict(self) -> dict[str, Any]:
        """What a run resumed within an epoch has counted so far."""
        return {"steps": self._steps, "validations": self._validations, "total": self._total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._steps, self._validations, self._total = (state_dict[key] for key in ("steps", "validations", "total"))


def steps_of_an_epoch(trainer: pl.Trainer) -> int:
    """Optimiser steps of a whole epoch: the last one may be of fewer batches than `accumulate_grad_batches`."""
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def validations_of_an_epoch(trainer: pl.Trainer) -> int:
    """Validations within the current epoch, the one at its end included."""
    every: Any = trainer.check_val_every_n_epoch
    batches: Any = trainer.val_check_batch
    if not trainer.enable_validation or (trainer.current_epoch + 1) % every:
        return 0
    return int(trainer.num_training_batches // batches)
