"""The Optuna study behind a search: storage, proposals, and going on where an earlier process stopped."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import DatabaseError

from kdrobust.config.build import first_line
from kdrobust.errors import RunFolderError, UsageError
from kdrobust.randomness import address
from kdrobust.sweeps.search import Search
from kdrobust.sweeps.space import Parameter

_log = logging.getLogger("kdrobust")
QUESTION = "question"
#: Trials that need not be run again.
SETTLED = (TrialState.COMPLETE, TrialState.PRUNED)
_SAMPLERS: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "random": optuna.samplers.RandomSampler,
    # a grid's points are queued, the sampler is never asked
    "grid": optuna.samplers.RandomSampler,
}
_PRUNERS: Mapping[str, Callable[..., optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
}
_FILES = {"sqlite": "study.db", "journal": "study.journal"}


def storage_of(folder: Path, kind: str) -> optuna.storages.BaseStorage:
    """The storage in a search's folder.

    Args:
        folder: the search's.
        kind: `sqlite` or `journal`.
    """
    path = folder / _FILES[kind]
    if kind == "sqlite":
        # seconds to wait for another job's write
        return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def _mend_journal(folder: Path) -> None:
    """Take away half a line and the lock that a process left which was killed while it wrote.

    The next line would be joined to the half one. For who holds the search's folder.
    """
    path = folder / _FILES["journal"]
    (folder / f"{path.name}.lock").unlink(missing_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        whole = content.rfind(b"\n") + 1
        os.truncate(path, whole)
        _log.warning("%s: its last line was cut short, and is left out; what it said is tried again", path)


def _build(factory: Callable[..., Any], options: Mapping[str, Any], key: str, **fixed: Any) -> Any:
    try:
        return factory(**options, **fixed)
    except (TypeError, ValueError) as error:
        raise UsageError(f"search.{key}: {str(error).splitlines()[0]}") from None


def sampler_of(search: Search, trial: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial, its random draws addressed by (search.seed, trial).

    A search that was interrupted therefore proposes what the uninterrupted one would have.

    Raises:
        UsageError: an option that Optuna's class refuses.
    """
    seed = address(search.seed, "search", trial) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = _build(
            _SAMPLERS[search.sampler], search.sampler_options, "sampler_options", seed=seed
        )
    return sampler


def pruner_of(search: Search) -> optuna.pruners.BasePruner:
    """The search's pruner; one that never prunes where it has none.

    Raises:
        UsageError: an option that Optuna's class refuses.
    """
    if search.pruner is None:
        return optuna.pruners.NopPruner()
    pruner: optuna.pruners.BasePruner = _build(_PRUNERS[search.pruner], search.pruner_options, "pruner_options")
    return pruner


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter as Optuna has it."""
    points = parameter.points()
    if parameter.type == "choice":
        return CategoricalDistribution(parameter.values)
    # the highest reachable value, or Optuna warns
    high = points[-1] if points and not parameter.log else parameter.high
    if parameter.type == "int":
        return IntDistribution(int(parameter.low), int(high), log=parameter.log, step=int(parameter.step or 1))
    return FloatDistribution(parameter.low, high, log=parameter.log, step=parameter.step)


def open_study(search: Search, folder: Path, question: str) -> optuna.Study:
    """Create the study of a search in its folder, or take it up again.

    Trials that a killed process left running are marked as failed first.

    Args:
        search: the search.
        folder: where its storage lies.
        question: hash of everything that must be the same for its trials to be comparable.

    Raises:
        RunFolderError: the folder holds the study of another question.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if search.storage == "journal":
        _mend_journal(folder)
    pruner, sampler = pruner_of(search), sampler_of(search, 0)
    try:
        study = optuna.create_study(
            study_name=search.name,
            storage=storage_of(folder, search.storage),
            sampler=sampler,
            pruner=pruner,
            directions=[optuna.study.StudyDirection[name.upper()] for name in search.directions],
            load_if_exists=True,
        )
    except (DatabaseError, optuna.exceptions.StorageInternalError, ValueError) as error:
        file = folder / _FILES[search.storage]
        raise RunFolderError(
            f"{file}: damaged or no study ({first_line(error)}); set another hydra.sweep.dir, or delete it"
        ) from None
    before = study.user_attrs.get(QUESTION)
    if before is None:
        study.set_user_attr(QUESTION, question)
    elif before != question:
        raise RunFolderError(
            f"{folder}: holds a search over another space or configuration; set another hydra.sweep.dir"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def settled(study: optuna.Study) -> int:
    """How many trials count towards `n_trials`: completed and pruned ones; failed ones are tried anew."""
    return len(study.get_trials(deepcopy=False, states=SETTLED))


def grid_points(search: Search) -> list[dict[str, Any]]:
    """Every point of a grid, the last parameter varying fastest."""
    axes = [parameter.points() or [] for parameter in search.space]
    return [dict(zip(search.keys, values, strict=True)) for values in itertools.product(*axes)]


def open_points(search: Search, study: optuna.Study) -> list[dict[str, Any]]:
    """The points of a grid that no settled trial has."""
    done = [trial.params for trial in study.get_trials(deepcopy=False, states=SETTLED)]
    return [point for point in grid_points(search) if point not in done]


def ask(search: Search, study: optuna.Study, point: Mapping[str, Any] | None = None) -> optuna.trial.Trial:
    """A new trial with values for every parameter.

    Args:
        search: the search.
        study: its study.
        point: the values; None: the sampler proposes.
    """
    if point is not None:
        study.enqueue_trial(dict(point))
    study.sampler = sampler_of(search, len(study.get_trials(deepcopy=False)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return study.ask({parameter.key: distribution(parameter) for parameter in search.space})
