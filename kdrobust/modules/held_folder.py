"""A training whose run folder is deleted ends at once: what it would write is lost."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from kdrobust.tracking import require_held

#: Least time between two looks.
_SECONDS = 1.0


class HeldFolder(pl.Callback):
    """Looks once a second whether the folders that this process holds are still there; other ranks hold none.

    Raises:
        RunFolderDeletedError: one was deleted, moved or replaced.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look."""
        self._look()

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any, **options: Any) -> None:
        """Look."""
        self._look()

    def _look(self) -> None:
        if time.monotonic() >= self._next:
            require_held()
            self._next = time.monotonic() + _SECONDS
