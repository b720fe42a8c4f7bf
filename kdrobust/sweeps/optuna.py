"""A sweep whose jobs Optuna proposes: one trial is one job a seed, started by Hydra's launcher like any other job."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.trial import TrialState

from kdrobust.config import config_hash, to_plain
from kdrobust.config.build import first_line
from kdrobust.config.compose import load
from kdrobust.config.hydra_node import task_overrides
from kdrobust.config.resolvers import slug
from kdrobust.errors import KdrobustError, UsageError
from kdrobust.sweeps.front import print_summary, write_figures, write_tables
from kdrobust.sweeps.pruning import TrialStopped
from kdrobust.sweeps.search import RETURNED, Search, parse_search
from kdrobust.sweeps.space import Parameter, spelled
from kdrobust.sweeps.study import ask, open_points, open_study, settled
from kdrobust.tracking import lock

_log = logging.getLogger("kdrobust")
Point = Mapping[str, Any] | None


class OptunaSweeper(Sweeper):
    """Hydra's sweeper for `search=NAME`.

    The study lies in the sweep's folder, `<run.root>/sweeps/<name>-<hash>`: the same command goes on with it, towards
    `search.n_trials`. A failed trial is recorded as failed, and the search goes on.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Read the search, settle its folder, make the launcher.

        Raises:
            UsageError: a search that cannot run, or a space that does not fit the config.
        """
        self._loader = hydra_context.config_loader
        self._stage = str(config.hydra.job.config_name)
        name = str(config.hydra.runtime.choices.get("search") or "search")
        arguments = task_overrides(config.hydra)
        self.fixed, swept = split_arguments(arguments)
        self.search = parse_search(name, to_plain(config.search), swept)
        question = self._question(config)
        if not any(str(line).startswith("hydra.sweep.dir=") for line in config.hydra.overrides.hydra):
            folder = Path(str(config.run.root)).expanduser().absolute() / "sweeps" / f"{slug(name)}-{question[:8]}"
            with read_write(config.hydra), open_dict(config.hydra):
                # jobs are composed anew from the overrides
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={spelled(str(folder))}")
                config.hydra.sweep.dir = str(folder)
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.question = question
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def _question(self, config: DictConfig) -> str:
        taken = {line.lstrip("+~").partition("=")[0] for line in self.fixed} & set(self.search.keys)
        if taken:
            key = sorted(taken)[0]
            raise UsageError(f"{key}: searched and fixed; leave {key}=... out, or remove it from search.space")
        if self.search.seeds and any(line.startswith("seed=") for line in self.fixed):
            raise UsageError("seed: search.seeds sets it; leave seed=... out, or set search.seeds=[]")
        base = config_hash(load(self._stage, self.fixed, loader=self._loader))
        for overrides in _one_value_each(self.search.space):
            load(self._stage, [*self.fixed, *overrides], loader=self._loader)
        text = json.dumps([self._stage, base, self.search.question()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has `n_trials`; tables and figures stay up to date with every batch."""
        with lock(self.folder):
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
            self.search.write(self.folder)
            study = open_study(self.search, self.folder, self.question)
            try:
                self._run(study)
            finally:
                write_tables(self.search, study, self.folder)
                write_figures(self.search, study, self.folder)
        print_summary(self.search, study, self.folder)

    def _run(self, study: optuna.Study) -> None:
        done = settled(study)
        wanted: list[Point] = [None] * max(0, self.search.n_trials - done)
        if self.search.sampler == "grid":
            wanted = list(open_points(self.search, study)[: len(wanted)])
        if done:
            _log.info("%s: %d trials are there, %d to go", self.folder, done, len(wanted))
        width = self._parallel()
        for start in range(0, len(wanted), width):
            self._batch(study, wanted[start : start + width])
            write_tables(self.search, study, self.folder)

    def _parallel(self) -> int:
        if self.search.parallel is not None:
            return self.search.parallel
        assert self.config is not None
        jobs = OmegaConf.select(self.config, "hydra.launcher.n_jobs")
        return max(1, int(jobs or 1) // self._jobs_each)

    @property
    def _jobs_each(self) -> int:
        return max(1, len(self.search.seeds))

    def _batch(self, study: optuna.Study, points: Sequence[Point]) -> None:
        assert self.launcher is not None
        open_trials: dict[int, optuna.trial.Trial] = {}
        try:
            for point in points:
                trial = ask(self.search, study, point)
                open_trials[trial.number] = trial
            for numbers in _runs(sorted(open_trials)):
                overrides = [line for number in numbers for line in self._jobs(open_trials[number])]
                jobs = self.launcher.launch(overrides, initial_job_idx=numbers[0] * self._jobs_each)
                for place, number in enumerate(numbers):
                    own = jobs[place * self._jobs_each : (place + 1) * self._jobs_each]
                    self._record(study, open_trials.pop(number), own)
        except BaseException:
            for trial in open_trials.values():
                study.tell(trial, state=TrialState.FAIL)
            raise

    def _jobs(self, trial: optuna.trial.Trial) -> list[list[str]]:
        chosen = [parameter.override(trial.params[parameter.key]) for parameter in self.search.space]
        own = [*self.fixed, *chosen, f"+run.trial={trial.number}"]
        return [[*own, f"seed={seed}"] for seed in self.search.seeds] or [own]

    def _record(self, study: optuna.Study, trial: optuna.trial.Trial, jobs: Sequence[JobReturn]) -> None:
        folders = [Path(str(job.hydra_cfg.hydra.runtime.output_dir)) for job in jobs if job.hydra_cfg is not None]
        trial.set_user_attr("jobs", [_relative(folder, self.folder) for folder in folders])
        errors = [job._return_value for job in jobs if job.status is JobStatus.FAILED]
        failures = [error for error in errors if not isinstance(error, TrialStopped)]
        if not failures and errors:
            study.tell(trial, state=TrialState.PRUNED)
            _log.info("trial %d: %s", trial.number, errors[0])
            return
        try:
            if failures:
                raise failures[0]
            results = [read_result(folder, job) for folder, job in zip(folders, jobs, strict=True)]
            means = judge(self.search, trial, results)
        except Exception as error:
            told = first_line(error) if isinstance(error, KdrobustError) else f"{type(error).__name__}: {error}"
            trial.set_user_attr("error", told)
            study.tell(trial, state=TrialState.FAIL)
            _log.info("trial %d failed: %s", trial.number, told)
            return
        study.tell(trial, means)
        figures = ", ".join(f"{name} {mean:.4g}" for name, mean in zip(self.search.metrics, means, strict=True))
        _log.info("trial %d: %s", trial.number, figures)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[Parameter]]:
    """A search's command line as what all its jobs share, and further parameters to search.

    `search=NAME` and `search.KEY=...` belong to neither. Swept values join the space: `threat.eps=4/255,8/255` and
    `choice(...)` are choices, `range(...)` too; `interval(0.1, 0.9)` is a float.

    Args:
        arguments: the overrides.
    """
    fixed, swept = [], []
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element()
        if key.lstrip("+~").split(".")[0] == "search":
            continue
        if override.is_sweep_override():
            swept.append(_swept(key, override))
        else:
            fixed.append(str(override.input_line))
    return fixed, swept


def _swept(key: str, override: Override) -> Parameter:
    if override.is_discrete_sweep():
        return Parameter(key=key, type="choice", values=tuple(override.sweep_string_iterator()))
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep)
    if sweep.start is None or sweep.end is None or sweep.start >= sweep.end:
        raise UsageError(f"{override.input_line}: the lower end must be below the upper one")
    return Parameter(key=key, type="float", low=float(sweep.start), high=float(sweep.end), log="log" in sweep.tags)


def _one_value_each(space: Sequence[Parameter]) -> Iterator[list[str]]:
    """Overrides that between them use every choice, so that one that does not exist is told before the first job."""
    options = [list(parameter.values) or [parameter.low] for parameter in space]
    first = [parameter.override(values[0]) for parameter, values in zip(space, options, strict=True)]
    yield first
    for place, parameter in enumerate(space):
        for value in options[place][1:]:
            yield [*first[:place], parameter.override(value), *first[place + 1 :]]


def _runs(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Ascending numbers cut where they are not consecutive: a launcher counts its jobs on from one number."""
    cuts = [place + 1 for place, (one, other) in enumerate(pairwise(numbers)) if other != one + 1]
    for start, end in pairwise([0, *cuts, len(numbers)]):
        yield list(numbers[start:end])


def _relative(folder: Path, home: Path) -> str:
    return folder.relative_to(home).as_posix() if folder.is_relative_to(home) else str(folder)


def read_result(folder: Path, job: JobReturn) -> dict[str, Any]:
    """A job's `result.json`, with what its stage returned as `returned`."""
    path = folder / "result.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {**result, RETURNED: job.return_value}


def figure_of(result: Mapping[str, Any], path: str) -> float:
    """A number of a result.

    Args:
        result: what `read_result` gave.
        path: dotted.

    Raises:
        UsageError: there is none; names what there is.
    """
    node: Any = result
    for piece in path.split("."):
        known = ", ".join(map(str, node)) if isinstance(node, Mapping) else "no keys"
        if not isinstance(node, Mapping) or node.get(piece) is None:
            raise UsageError(f"search: result.json has no {path}: at {piece!r} there are {known}")
        node = node[piece]
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise UsageError(f"search: {path} of result.json is no number: {node!r}")
    return float(node)


def judge(search: Search, trial: optuna.trial.Trial, results: Sequence[Mapping[str, Any]]) -> list[float]:
    """The means of a trial's metrics over its jobs; deviations, costs and constraints are noted in the trial.

    Args:
        search: says which figures.
        trial: of the results.
        results: one a seed.

    Raises:
        UsageError: a figure that a result does not have.
    """
    table = [[figure_of(result, metric) for result in results] for metric in search.metrics]
    for constraint in search.constraints:
        # the worst seed counts
        worst = max(constraint.violation(figure_of(result, constraint.path)) for result in results)
        trial.set_constraint(constraint.text, worst)
    if len(results) > 1:
        trial.set_user_attr("std", [statistics.stdev(values) for values in table])
    trial.set_user_attr("parameters", (results[0].get("model") or {}).get("parameters"))
    trial.set_user_attr("seconds", sum(float(result.get("seconds") or 0.0) for result in results))
    return [statistics.fmean(values) for values in table]
