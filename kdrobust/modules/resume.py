"""The resume point: a checkpoint of everything, taken where no half-done bookkeeping can be caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class ResumePoint(pl.Callback):
    """Writes `last.ckpt` after every epoch.

    Lightning's own `save_last` runs before the epoch's scheduler step and counters are done, so that a run resumed
    from it misses a plateau step. This one saves when the next epoch begins: the resumed run is the uninterrupted one.

    Args:
        path: the file.
        every_n_epochs: save after every n-th epoch.
    """

    def __init__(self, *, path: str | Path, every_n_epochs: int = 1) -> None:
        self.path = Path(path)
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save what the epochs before this one made."""
        # a resumed run begins at an epoch's first batch like any other; left in its "restarting" state, Lightning would
        # skip this epoch's plateau step
        trainer.fit_loop.restarting = False
        epoch = trainer.current_epoch
        if epoch > 0 and epoch % self.every_n_epochs == 0:
            # the batch counter still says that the last epoch is complete: resumed so, this one would be skipped
            trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
            trainer.save_checkpoint(self.path)
