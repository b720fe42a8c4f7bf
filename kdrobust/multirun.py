"""A sweep: Hydra's sweeper and launcher, going on after a failed job and telling every failure at the end."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.build import first_line
from kdrobust.config.check import distinct, summary
from kdrobust.config.compose import load
from kdrobust.config.hydra_node import task_overrides
from kdrobust.config.interpolations import value_problems
from kdrobust.config.schema import schema_problems
from kdrobust.config.trust import CODE, require_consent
from kdrobust.errors import KdrobustError, UsageError
from kdrobust.refusal import without_trace
from kdrobust.tracking.ranks import made_by

if TYPE_CHECKING:
    from kdrobust.sweeps.session import Session

#: More than this is a slip of the keyboard, which would fill the memory before the first job.
_MOST_JOBS = 100_000


def sweep(hydra: Hydra, cfg: DictConfig, stage: str, task: TaskFunction, flags: Sequence[str] = ()) -> None:
    """Run a sweep: every job, whatever becomes of the others.

    Args:
        hydra: the composed program.
        cfg: the sweep's own config, with Hydra's node.
        stage: the primary config's name.
        task: what every job calls.
        flags: of the command line, for a later resume.

    Raises:
        UsageError: a job that cannot be composed, or a value of the sweep that no job takes; nothing has run then.
        SweepError: some jobs failed.
    """
    if made_by() is not None:
        raise UsageError(
            f"-m: every process that {made_by()} started would run the sweep; leave it out: each job starts its own "
            "ranks (trainer=ddp), or a launcher does (hydra/launcher=submitit_slurm)"
        )
    require_consent(cfg)
    for key in OmegaConf.select(cfg, "search.space") or {}:
        if str(key).lstrip("+") in ("trusted_modules", CODE):
            raise UsageError(f"search.space.{key}: what is trusted is no value of a search; set {key}=...")
    if cfg.get("search") is None:
        _check_values(hydra, cfg, stage)
    _tell_teachers(cfg)
    callbacks = Callbacks(cfg)
    callbacks.on_multirun_start(config=cfg, config_name=stage)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    try:
        sweeper = _sweeper(cfg, context, task)
    except (ImportError, RuntimeError) as error:
        raise UsageError(f"hydra/sweeper, hydra/launcher: {first_line(error)}") from error
    # only now: a search settles its own folder
    with without_trace(Path(str(cfg.hydra.sweep.dir)).expanduser()):
        _sweep(sweeper, hydra, cfg, stage, callbacks, flags)


def _sweep(sweeper: Any, hydra: Hydra, cfg: DictConfig, stage: str, callbacks: Callbacks, flags: Sequence[str]) -> None:
    # not at import: a single run need not pay for it
    from kdrobust.sweeps.session import Session

    jobs: list[JobReturn] = []
    session = Session(cfg, stage, flags)
    _collect(sweeper, jobs, session)
    complete = False
    try:
        sweeper.sweep(arguments=task_overrides(cfg.hydra))
        complete = True
    except Exception as error:
        # a search goes on after failed jobs: what ends it is something else
        if cfg.get("search") is not None or not any(job.status is JobStatus.FAILED for job in jobs):
            raise _explained(error, hydra, cfg, stage) from error
    else:
        callbacks.on_multirun_end(config=cfg, config_name=stage)
    finally:
        session.finish(complete=complete)
    _tell_failures(jobs)


def _check_values(hydra: Hydra, cfg: DictConfig, stage: str) -> None:
    """Refuse what a single run would refuse of any value of a grid before its first job trains.

    Raises:
        UsageError: one line a problem.
    """
    problems: list[str] = []
    for overrides in _one_value_each(task_overrides(cfg.hydra), hydra.config_loader):
        try:
            job = load(stage, overrides, loader=hydra.config_loader)
        except UsageError:
            # told by the sweeper, which composes every job before the first one runs
            return
        require_consent(job)
        problems += [*schema_problems(job), *value_problems(job)]
    if problems:
        raise UsageError(summary(distinct(problems)))


def _tell_teachers(cfg: DictConfig) -> None:
    """Warn of a sweep whose values have a teacher each, before the first is trained."""
    # not at import: a single run need not pay for it
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from kdrobust.sweeps.implied import teachers_a_value

    parsed = OverridesParser.create().parse_overrides(task_overrides(cfg.hydra))
    swept = [override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()]
    searched = [str(key) for key in OmegaConf.select(cfg, "search.space") or {}]
    method = "" if "method" in swept else str(cfg.hydra.runtime.choices.get("method"))
    for line in teachers_a_value(cfg, [*swept, *searched], method):
        logging.getLogger("kdrobust").warning(line)


def _sweeper(cfg: DictConfig, context: HydraContext, task: TaskFunction) -> Any:
    if cfg.get("search") is None:
        return Plugins.instance().instantiate_sweeper(config=cfg, hydra_context=context, task_function=task)
    from kdrobust.sweeps.optuna import OptunaSweeper

    # Hydra takes sweepers only from a namespace that would act on every Hydra program of the environment
    sweeper = OptunaSweeper()
    sweeper.setup(hydra_context=context, task_function=task, config=cfg)
    return sweeper


def _explained(error: Exception, hydra: Hydra, cfg: DictConfig, stage: str) -> Exception:
    """What a sweeper raised before or between its jobs; a job that cannot be composed is told like a single run."""
    from hydra.errors import ConfigCompositionException, HydraException

    if not isinstance(error, HydraException | OmegaConfBaseException):
        return error
    composing = isinstance(error, ConfigCompositionException)
    for overrides in _one_value_each(task_overrides(cfg.hydra), hydra.config_loader) if composing else ():
        try:
            load(stage, overrides, loader=hydra.config_loader)
        except UsageError as told:
            return told
    return UsageError(f"{stage}: {first_line(error.__cause__ or error)}")


def _refuse_endless(parsed: Sequence[Any]) -> None:
    """Refuse a grid of more jobs than anybody runs, before it is written out, and a pattern that nothing matches."""
    jobs = 1
    for override in parsed:
        if not (override.is_sweep_override() and override.is_discrete_sweep()):
            continue
        value = override.value()
        if override.is_range_sweep():
            start, stop, step = (float(value.start), float(value.stop), float(value.step))
            jobs *= max(0, math.ceil((stop - start) / step)) if step else 0
        else:
            jobs *= sum(1 for _ in override.sweep_iterator())
        if jobs == 0:
            raise UsageError(f"{override.input_line}: gives no value; see kdrobust list, or name the values")
        if jobs > _MOST_JOBS:
            raise UsageError(f"{override.input_line}: makes {jobs} jobs; a sweep has at most {_MOST_JOBS}")


def _one_value_each(overrides: Sequence[str], loader: Any = None) -> Iterator[list[str]]:
    """The jobs that between them use every value of every swept key: the first values, then one other at a time."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
    values = []
    _refuse_endless(parsed)
    for override in parsed:
        key = override.get_key_element()
        swept = override.is_sweep_override() and override.is_discrete_sweep()
        values.append(
            [f"{key}={value}" for value in override.sweep_string_iterator()] if swept else [override.input_line]
        )
    first = [str(options[0]) for options in values]
    yield first
    for index, options in enumerate(values):
        for option in options[1:]:
            yield [*first[:index], str(option), *first[index + 1 :]]


def _collect(sweeper: Any, jobs: list[JobReturn], session: Session) -> None:
    """Keep what every job returned, and let Hydra's basic sweeper go on after a failed one."""
    launcher = sweeper.launcher
    launch = launcher.launch
    goes_on = type(sweeper).__name__ == "BasicSweeper"

    def collecting(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        results = session.launch(launch, job_overrides, initial_job_idx)
        jobs.extend(results)
        return [_as_completed(result) for result in results] if goes_on else results

    launcher.launch = collecting


def _as_completed(job: JobReturn) -> JobReturn:
    if job.status is not JobStatus.FAILED:
        return job
    quiet = copy.copy(job)
    quiet.status, quiet._return_value = JobStatus.COMPLETED, None
    return quiet


def _failed(job: JobReturn) -> bool:
    # a job that a search's pruner ended says so by its exit code
    return job.status is JobStatus.FAILED and getattr(job._return_value, "exit_code", 1) != 0


def _tell_failures(jobs: Sequence[JobReturn]) -> None:
    failed = [(number, job) for number, job in enumerate(jobs) if _failed(job)]
    if not failed:
        return
    errors = [job._return_value for _, job in failed]
    lines = [f"{len(failed)} of {len(jobs)} jobs failed:"]
    for (number, job), error in zip(failed, errors, strict=True):
        told = str(error) if isinstance(error, KdrobustError) else f"{type(error).__name__}: {first_line(error)}"
        lines.append(f"  {number} ({' '.join(job.overrides or [])}): {told}".replace("\n", "\n    "))
    codes = {error.exit_code if isinstance(error, KdrobustError) else 1 for error in errors}
    raise SweepError("\n".join(lines), codes.pop() if len(codes) == 1 else 1)


class SweepError(KdrobustError):
    """Some jobs of a sweep failed; the others have run.

    Args:
        message: a count and one line each.
        exit_code: the failed jobs' own where it is one and the same, else 1.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
