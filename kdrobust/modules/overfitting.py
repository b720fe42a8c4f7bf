"""Two ways in which robustness is lost while training looks well: robust and catastrophic overfitting, named."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl

_log = logging.getLogger(__name__)
#: Share of the best validation robust accuracy below which its fall is a collapse.
COLLAPSED = 0.25


class OverfittingWarning(pl.Callback):
    """Logs the gap between training and validation robust accuracy, and warns of robust overfitting.

    `val/robust_gap` is the epoch's training robust accuracy (under the training attack, on the samples it trained on)
    minus the validation one. The warning comes when validation robust accuracy has stayed more than two standard
    errors below its best for `patience` epochs while the training one is no lower than it was at that best.

    Catastrophic overfitting is told at once: validation robust accuracy falls below a quarter of its best while the
    training one, under an attack of few steps that the model has learnt to fool, does not fall.

    Args:
        patience: epochs.

    Attributes:
        messages: what was said; results carry it on.

    Sources: Rice, Wong & Kolter, ICML 2020, arXiv:2002.11569 (robust overfitting); Wong, Rice & Kolter, ICLR 2020,
    arXiv:2001.03994, section 5.4 (catastrophic overfitting).
    """

    def __init__(self, *, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"patience: must be at least 1, got {patience}")
        self.patience = patience
        self.messages: list[str] = []
        self._best = (-1.0, 0.0, 0)
        self._below = 0
        self._broken = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the epoch's two figures."""
        metrics = trainer.callback_metrics
        if "train/robust_accuracy" not in metrics or "val/robust_accuracy" not in metrics:
            return
        training, validation = float(metrics["train/robust_accuracy"]), float(metrics["val/robust_accuracy"])
        pl_module.log("val/robust_gap", training - validation, sync_dist=True)
        best, then, epoch = self._best
        if validation >= best:
            self._best, self._below = (validation, training, trainer.current_epoch), 0
            return
        samples = max(1, len(trainer.datamodule.split("validation").labels))  # type: ignore[attr-defined]
        margin = 2.0 * math.sqrt(max(best * (1.0 - best), 1e-12) / samples)
        fallen = validation < best - margin
        if not self._broken and fallen and validation < COLLAPSED * best and training >= then - margin:
            self._broken = True
            self._tell(
                f"catastrophic overfitting: validation robust accuracy fell from {best:.1%} (epoch {epoch + 1}) to "
                f"{validation:.1%} in epoch {trainer.current_epoch + 1} while the training attack still reports "
                f"{training:.1%}: the model fools that attack; best.ckpt is of the best epoch; take more and smaller "
                "steps (attack=pgd) or a smaller attack.step_size"
            )
        self._below = self._below + 1 if fallen and training >= then else 0
        if self._below == self.patience and not self._broken:
            self._tell(
                f"robust overfitting: validation robust accuracy fell from {best:.1%} (epoch {epoch + 1}) to "
                f"{validation:.1%} while the training one rose from {then:.1%} to {training:.1%}; best.ckpt is of the "
                "best epoch; try callbacks=early_stopping, +average=swa or +wrap=awp"
            )

    def _tell(self, message: str) -> None:
        self.messages.append(message)
        _log.warning(message)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on comparing."""
        return {"best": list(self._best), "below": self._below, "broken": self._broken, "messages": list(self.messages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        best, then, epoch = state_dict["best"]
        self._best = (float(best), float(then), int(epoch))
        self._below = int(state_dict["below"])
        self._broken = bool(state_dict["broken"])
        self.messages = list(state_dict["messages"])
