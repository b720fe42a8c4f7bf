"""Progress that reads the same in a terminal and in a log file."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl

_log = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """`75` as `1:15`, `3700` as `1:01:40`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressLines(pl.Callback):
    """One line an epoch (and one every `seconds` within a long one): epoch, accuracies, learning rate, time left.

    Args:
        label: what is being trained, the line's first word.
        seconds: the least time between two lines.
    """

    def __init__(self, *, label: str = "training", seconds: float = 5.0) -> None:
        self.label = label
        self.seconds = seconds
        self._started = 0.0
        self._first_step = 0
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A sign of life inside a long epoch."""
        if time.monotonic() - self._last >= max(self.seconds, 20.0):
            share = (batch_idx + 1) / max(1, int(trainer.num_training_batches))
            self._say(trainer, f"{share:.0%} of the epoch")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The epoch's figures."""
        last = trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if not last and time.monotonic() - self._last < self.seconds:
            return
        metrics = trainer.callback_metrics
        shown = [("loss", "train/loss", "{:.4f}"), ("val", "val/accuracy", "{:.1%}")]
        shown.append(("val robust", "val/robust_accuracy", "{:.1%}"))
        if not getattr(pl_module, "labelled", True):
            shown += [("agreement", "val/agreement", "{:.1%}"), ("robust", "val/robust_agreement", "{:.1%}")]
        parts = [f"{name} {form.format(float(metrics[key]))}" for name, key, form in shown if key in metrics]
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else 0.0
        self._say(trainer, "  ".join([*parts, f"lr {rate:.2g}"]))

    def _say(self, trainer: pl.Trainer, text: str) -> None:
        if not trainer.is_global_zero:
            return
        self._last = time.monotonic()
        total = max(1, int(trainer.estimated_stepping_batches))
        done = trainer.global_step - self._first_step
        left = (self._last - self._started) / done * (total - trainer.global_step) if done else 0.0
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        _log.info("%s  epoch %s  %s  left %s", self.label, epoch, text, duration(left))
