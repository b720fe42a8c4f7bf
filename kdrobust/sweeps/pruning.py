"""A running job tells its trial how it does, and stops where the pruner says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl

from kdrobust.errors import KdrobustError
from kdrobust.sweeps.search import FILE, read_search
from kdrobust.sweeps.study import pruner_of, storage_of


class TrialStopped(KdrobustError, optuna.TrialPruned):
    """The pruner ended a trial: no failure, its job is told as pruned."""

    exit_code = 0


class TrialReport(pl.Callback):
    """Reports the validation figure of every epoch to the search's trial.

    All ranks stop together: rank 0 asks, the others learn its answer.

    Args:
        folder: the search's.
        trial: the trial's number.
    """

    def __init__(self, *, folder: Path, trial: int) -> None:
        self.folder = folder
        self.trial = trial
        self.search = read_search(folder)
        self.key = "val/" + self.search.metrics[0].removeprefix("validation.")
        self._live: optuna.trial.Trial | None = None

    def _connect(self) -> optuna.trial.Trial:
        if self._live is None:
            study = optuna.load_study(
                study_name=self.search.name,
                storage=storage_of(self.folder, self.search.storage),
                sampler=optuna.samplers.RandomSampler(),
                pruner=pruner_of(self.search),
            )
            frozen = study.get_trials(deepcopy=False)[self.trial]
            # the one way to a trial that another process has begun
            self._live = optuna.trial.Trial(study, frozen._trial_id)
        return self._live

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report, and stop if told to.

        Raises:
            TrialStopped: the pruner gives the trial up.
        """
        value = trainer.callback_metrics.get(self.key)
        if trainer.sanity_checking or value is None or not math.isfinite(float(value)):
            return
        stop = False
        if trainer.is_global_zero:
            live = self._connect()
            live.report(float(value), step=trainer.current_epoch)
            stop = live.should_prune()
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            raise TrialStopped(f"pruned after epoch {trainer.current_epoch + 1}: {self.key} {float(value):.4f}")


def trial_report(folder: Path, trial: int) -> list[TrialReport]:
    """The callback of a job that belongs to a trial; empty where nothing prunes.

    Args:
        folder: the job's.
        trial: the trial's number, `run.trial` of the job's config.
    """
    home = next((parent for parent in folder.absolute().parents if (parent / FILE).is_file()), None)
    if home is None or read_search(home).pruner is None:
        return []
    return [TrialReport(folder=home, trial=trial)]
