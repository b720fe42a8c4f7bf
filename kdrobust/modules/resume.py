"""The resume point: a checkpoint of everything, taken where no half-done bookkeeping can be caught."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.loops.loop import _Loop
from torch import Tensor

from kdrobust.errors import CheckpointError, StoppedError
from kdrobust.losses.collective import is_distributed
from kdrobust.models import read_checkpoint
from kdrobust.modules.steps import is_over
from kdrobust.modules.stopping import StopRequest
from kdrobust.tracking import damage
from kdrobust.tracking.metrics import MetricsCsv

_log = logging.getLogger(__name__)
_STATE = "resume"


class ResumePoint(pl.callbacks.Checkpoint):
    """Writes `last.ckpt` at an epoch's begin, and within an epoch where asked.

    Lightning's own checkpoints miss what it does after writing them (a plateau step, counters), the running means of
    the epoch, metrics of earlier epochs, and every process's own state but the first's. This one holds them: a run
    that goes on from here ends with the same bits. It replays no data: batches are a function of seed, epoch and place.

    The point before stays beside it as `previous.ckpt`, for a file that was damaged since.

    Args:
        path: the file.
        every_n_epochs: save when every n-th epoch is done.
        every_n_steps: save also within an epoch, when so many optimiser steps have passed; None: not.
        every_minutes: save also within an epoch, when so much time has passed; None: not.

    Raises:
        ValueError: a value that is not positive.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        given = {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps, "every_minutes": every_minutes}
        for key, value in given.items():
            if value is not None and value <= 0:
                raise ValueError(f"{key}: must be positive, got {value}")
        self.path = Path(path)
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self._saved_step = 0
        self._saved_time = time.monotonic()
        self._restored: dict[str, Any] = {}
        self._began = time.monotonic()
        #: Seconds that earlier processes spent on this training, up to the point that this one went on from.
        self.seconds_before = 0.0
        self._saving = False
        self._stop = StopRequest()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take over what Lightning does not restore, and the signals, which it has just taken."""
        self._stop.listen()
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if not self._restored:
            return
        trainer.callback_metrics.update(self._restored["callback_metrics"])
        mine = self._restored["processes"][trainer.global_rank]
        pl_module.means.load_state_dict(mine["means"])
        for name, buffer in pl_module.named_buffers():
            if name in mine["buffers"]:
                buffer.copy_(mine["buffers"][name])
        self._restored = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save what the epochs before this one made."""
        # a run resumed here begins at an epoch's first batch like any other; left in its "restarting" state, Lightning
        # would skip this epoch's plateau step
        _end_restart(trainer)
        # Lightning counts this begin twice or not at all where it was resumed from, and would take a later point within
        # the epoch for its begin
        progress: Any = trainer.fit_loop.epoch_progress
        for tracker in (progress.total, progress.current):
            tracker.ready = tracker.started + 1
        epoch = trainer.current_epoch
        if epoch > 0 and epoch % self.every_n_epochs == 0:
            # the batch counter still says that the last epoch is complete: resumed so, this one would be skipped
            trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
            self.save(trainer)
            self._stop_if_asked(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within the epoch, if it is time; as a checkpoint callback, after all others.

        A signal stops here, or after the epoch's validation where that is next.
        """
        number = self._stop.agreed(trainer)
        if (self._is_due(trainer) or number is not None) and is_between_steps(trainer, batch_idx):
            self.save(trainer)
            if number is not None:
                raise StoppedError(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """An epoch that was resumed in its midst ends like any other, with its plateau step."""
        _end_restart(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save what training has come to: a run killed while its figures are drawn need not train again."""
        self.save(trainer, finished=True)
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        number = self._stop.agreed(trainer)
        if number is not None:
            raise StoppedError(number)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        steps, minutes = self.every_n_steps, self.every_minutes
        if steps is not None and trainer.global_step - self._saved_step >= steps:
            return True
        if minutes is None:
            return False
        # clocks differ between processes, and all of them have to save
        late = time.monotonic() - self._saved_time >= 60.0 * minutes
        return trainer.strategy.reduce_boolean_decision(late, all=False)

    def save(self, trainer: pl.Trainer, *, finished: bool = False) -> None:
        """Write the resume point now; every process has to call this.

        Args:
            trainer: whose training.
            finished: whether it is over; early stopping is known to nothing else.
        """
        self._saving = True
        try:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        finally:
            self._saving = False
        checkpoint[_STATE]["finished"] = finished
        previous = previous_point(self.path)
        trainer.strategy.save_checkpoint(checkpoint, self.path, storage_options={"previous": previous})
        trainer.strategy.barrier("resume point")
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not save, to resume points only."""
        if not self._saving:
            return
        buffers = {name: value.detach().cpu() for name, value in pl_module.named_buffers()}
        mine = {"means": pl_module.means.state_dict(), "buffers": buffers if is_distributed() else {}}
        processes: list[Any] = [mine]
        if is_distributed():
            processes = [None] * trainer.world_size
            dist.all_gather_object(processes, mine)
        checkpoint[_STATE] = {
            "processes": processes,
            "callback_metrics": {key: _plain(value) for key, value in trainer.callback_metrics.items()},
            "seconds": self.seconds_before + time.monotonic() - self._began,
            "rows": [logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCsv)],
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep it until training starts; the metrics' rows are taken over at once."""
        self._restored = checkpoint[_STATE]
        self.seconds_before = float(self._restored.get("seconds", 0.0))
        trainer.should_stop = self._restored["finished"]
        loggers = [logger for logger in trainer.loggers if isinstance(logger, MetricsCsv)]
        for logger, rows in zip(loggers, self._restored["rows"], strict=True):
            logger.resume(rows)


def previous_point(path: Path) -> Path:
    """Where the resume point before the one at `path` is kept."""
    return path.with_name("previous.ckpt")


def find_resume_point(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last resume point that is whole, and its content; None where there is none.

    Args:
        path: the last one; the one before is looked at if this one is damaged.

    Raises:
        CheckpointError: there are some and none can be used, or the best epoch's checkpoint is damaged.
    """
    problems: list[str] = []
    for candidate in (path, previous_point(path)):
        if not candidate.exists():
            continue
        try:
            return candidate, _read(candidate, problems)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        kept = f"{path.name} and {previous_point(path).name}"
        raise CheckpointError(f"{'; '.join(problems)}; to train again from the start, delete {kept} in {path.parent}")
    return None


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    found = damage(path)
    if found:
        raise CheckpointError(f"{path}: {found}")
    checkpoint = read_checkpoint(path)
    if _STATE not in checkpoint:
        raise CheckpointError(f"{path}: a resume point of another version of kdrobust")
    if problems:
        _log.warning("%s; going back to %s, %s", "; ".join(problems), path.name, place_of(checkpoint))
    for key, state in checkpoint.get("callbacks", {}).items():
        best = state.get("best_model_path") if key.startswith("ModelCheckpoint") else None
        broken = damage(best) if best else None
        if broken:
            # only the epochs that made it could make it again
            raise CheckpointError(f"{best}: {broken}")
    return checkpoint


def place_of(checkpoint: Mapping[str, Any]) -> str:
    """Where in the training a resume point lies, in words: `epoch 3` or `step 120, in epoch 3`."""
    epoch = int(checkpoint["epoch"])
    if checkpoint.get(_STATE, {}).get("finished"):
        return f"epoch {epoch}, the last one"
    within = int(checkpoint.get("DataModule", {}).get("batches", 0))
    return f"step {checkpoint['global_step']}, in epoch {epoch + 1}" if within else f"epoch {epoch}"


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().clone()


def _end_restart(trainer: pl.Trainer) -> None:
    # the fit loop's own setter makes True of False where max_steps is set, and an epoch that counts as restarted takes
    # the exhausted iterator of the one before: it would train on nothing
    _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]


def is_between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether all that belongs to a step is done when its batch ends, and the epoch goes on with another one.

    Not so where gradients are still being collected, and where a plateau step, a validation, the epoch's end or that of
    the training follows.
    """
    done = batch_idx + 1
    if is_over(trainer):
        return False
    if any(config.reduce_on_plateau and config.interval == "step" for config in trainer.lr_scheduler_configs):
        return False
    if done >= trainer.num_training_batches or done % trainer.accumulate_grad_batches:
        return False
    check: Any = trainer.val_check_batch
    return not check or check == float("inf") or done % check != 0
