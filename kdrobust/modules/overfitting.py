"""Robust overfitting: training goes on robustly, validation no longer does. Named when it happens."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl

_log = logging.getLogger(__name__)


class OverfittingWarning(pl.Callback):
    """Logs the gap between training and validation robust accuracy, and warns of robust overfitting.

    `val/robust_gap` is the epoch's training robust accuracy (under the training attack, on the samples it trained on)
    minus the validation one. The warning comes when validation robust accuracy has stayed more than two standard
    errors below its best for `patience` epochs while the training one is no lower than it was at that best.

    Args:
        patience: epochs.

    Attributes:
        messages: what was said; results carry it on.

    Source: Rice, Wong & Kolter, ICML 2020, arXiv:2002.11569.
    """

    def __init__(self, *, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"patience: must be at least 1, got {patience}")
        self.patience = patience
        self.messages: list[str] = []
        self._best = (-1.0, 0.0, 0)
        self._below = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the epoch's two figures."""
        metrics = trainer.callback_metrics
        if "train/robust_accuracy" not in metrics or "val/robust_accuracy" not in metrics:
            return
        training, validation = float(metrics["train/robust_accuracy"]), float(metrics["val/robust_accuracy"])
        pl_module.log("val/robust_gap", training - validation, rank_zero_only=False)
        best, then, epoch = self._best
        if validation >= best:
            self._best, self._below = (validation, training, trainer.current_epoch), 0
            return
        samples = max(1, len(trainer.datamodule.split("validation").labels))  # type: ignore[attr-defined]
        margin = 2.0 * math.sqrt(max(best * (1.0 - best), 1e-12) / samples)
        self._below = self._below + 1 if validation < best - margin and training >= then else 0
        if self._below == self.patience:
            message = (
                f"robust overfitting: validation robust accuracy fell from {best:.1%} (epoch {epoch + 1}) to "
                f"{validation:.1%} while the training one rose from {then:.1%} to {training:.1%}; best.ckpt is of the "
                "best epoch; try callbacks=early_stopping, +average=swa or +wrap=awp"
            )
            self.messages.append(message)
            _log.warning(message)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on comparing."""
        return {"best": list(self._best), "below": self._below, "messages": list(self.messages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        best, then, epoch = state_dict["best"]
        self._best = (float(best), float(then), int(epoch))
        self._below = int(state_dict["below"])
        self.messages = list(state_dict["messages"])
