"""Stage `pipeline`: the four steps in one: teacher, its outputs, students, and the comparison under attack."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config import instantiate, to_plain
from kdrobust.errors import UsageError
from kdrobust.losses import Objective
from kdrobust.stages.comparison import paired, print_comparison, print_costs, write_comparison
from kdrobust.stages.detection import misplaced
from kdrobust.stages.implied import MAIN, is_implied
from kdrobust.stages.run import resolve, run_config
from kdrobust.stages.setup import check_method, log, prepare_data, result_header
from kdrobust.stages.teachers import (
    asked_teachers,
    find_checkpoint,
    implied_teachers,
    needs_live_teacher,
    teacher_problems,
)
from kdrobust.tracking import is_finished, write_result

_OWN = ("seeds", "baseline", "evaluation", "stage", "seed", "run")
#: The students, by what their folders are called.
_ALONE, _DISTILLED = "student_alone", "student_distilled"


def _problems(cfg: DictConfig, objective: Objective) -> list[str]:
    problems = [
        *teacher_problems(cfg, objective),
        *(f"{problem} (a pipeline trains and measures classifiers)" for problem in misplaced(cfg)),
    ]
    remedy = "use kdrobust distill, then kdrobust evaluate"
    if cfg.data.get("unlabelled"):
        problems.append(f"data.unlabelled=true: the pipeline's student alone has no labels to learn from; {remedy}")
    if cfg.teacher.get("transform") is not None:
        problems.append(f"teacher.transform: the pipeline compares models of the same inputs; {remedy}")
    return problems


def check(cfg: DictConfig, problems: Sequence[str]) -> Objective:
    """Refuse a config that cannot run; returns the method's objective."""
    return check_method(cfg, problems, teachers=_problems)


def _names(cfg: DictConfig, objective: Objective) -> list[str]:
    """The teachers that stand in the table: those the method asks, or the one a student without any could have had."""
    return asked_teachers(cfg, objective) or [MAIN]


def _label(name: str) -> str:
    return "teacher" if name == MAIN else f"{name} teacher"


class _Jobs:
    """The resolved configs of a pipeline's jobs, by their folder below the pipeline's."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.folder = Path(str(cfg.run.folder))
        self.configs: dict[str, Any] = {}

    def add(self, place: str, stage: str, name: str, **changes: Any) -> Path:
        """Note a job of another stage, made of the pipeline's own nodes and what differs; returns its folder."""
        cfg, folder = self.cfg, self.folder / place
        kept = {str(key): OmegaConf.masked_copy(cfg, str(key))[key] for key in cfg if key not in _OWN}
        run = {"name": name, "root": cfg.run.root, "folder": str(folder)}
        seed = changes.pop("seed", int(cfg.seed))
        config = OmegaConf.create({**kept, "seed": seed, "stage": stage, "run": run, **changes})
        try:
            self.configs[place] = OmegaConf.to_container(resolve(config, folder))
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        return folder

    def evaluate(self, place: str, checkpoint: Path, name: str) -> None:
        """Note the evaluation of a checkpoint."""
        cfg = self.cfg
        config = OmegaConf.create(
            {
                "stage": "evaluate",
                "seed": int(cfg.seed),
                "run": {"name": name, "root": cfg.run.root, "folder": str(self.folder / place)},
                "trusted_modules": cfg.trusted_modules,
                "threads": cfg.threads,
                "checkpoint": str(checkpoint),
                **{key: OmegaConf.masked_copy(cfg, key)[key] for key in ("data", "threat", "trainer", "evaluation")},
            }
        )
        self.configs[place] = OmegaConf.to_container(resolve(config, self.folder / place))


def derive(cfg: DictConfig, objective: Objective) -> dict[str, Any]:
    """The configs of the teachers that are trained, and of every other job, by folder."""
    names = _names(cfg, objective)
    teachers = implied_teachers(cfg, names)
    jobs = _Jobs(cfg)
    given: dict[str, dict[str, Any]] = {}
    for name in names:
        if is_implied(cfg, name):
            checkpoint = Path(teachers[name]["run"]["folder"]) / "best.ckpt"
        else:
            checkpoint = find_checkpoint(cfg, name)
        jobs.evaluate(_evaluation_of(name), checkpoint, _label(name))
        given[name] = {"checkpoint": str(checkpoint)}
        asked = name in asked_teachers(cfg, objective)
        if asked and not needs_live_teacher(cfg, objective, name) and cfg.data.get("augmentation") is None:
            node = OmegaConf.create({"checkpoint": str(checkpoint), "transform": None})
            place = _outputs_of(name)
            jobs.add(place, "outputs", f"{_label(name)}'s outputs", teacher=node)
            given[name]["outputs"] = str(jobs.folder / place)
    further = {name: {**to_plain(cfg.teachers[name]), **changes} for name, changes in given.items() if name != MAIN}
    main = OmegaConf.merge(cfg.teacher, given.get(MAIN, {}))
    # a student alone has no teachers, whatever those of the other one are
    alone = {"method": cfg.baseline.method.copy(), "attack": cfg.baseline.attack.copy(), "teachers": {}, "partners": {}}
    for label, changes in ((_ALONE, alone), (_DISTILLED, {"teacher": main, "teachers": further})):
        for seed in cfg.seeds:
            place, name = _student(label, seed), f"{label.replace('_', ' ')} seed {seed}"
            folder = jobs.add(place, "distill", name, seed=int(seed), **changes)
            jobs.evaluate(f"{place}/evaluation", folder / "best.ckpt", name)
    return {"teachers": teachers, "jobs": jobs.configs}


def _evaluation_of(name: str) -> str:
    return "teacher_evaluation" if name == MAIN else f"teacher_{name}_evaluation"


def _outputs_of(name: str) -> str:
    return "teacher_outputs" if name == MAIN else f"teacher_{name}_outputs"


def _student(label: str, seed: int) -> str:
    return f"{label}/seed_{seed}"


def _done(cfg: DictConfig, place: str) -> dict[str, Any]:
    """The result of one of a pipeline's jobs, run now unless it is finished."""
    config = OmegaConf.create(OmegaConf.to_container(cfg.derived.jobs[place]))
    assert isinstance(config, DictConfig)
    folder = Path(str(config.run.folder))
    if not is_finished(folder):
        verb = {"evaluate": "evaluating", "distill": "training", "outputs": "storing"}[str(config.stage)]
        log.info("%s %s", verb, config.run.name)
        run_config(config)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def run(cfg: DictConfig, folder: Path, digest: str, objective: Objective) -> dict[str, Any]:
    """Train and compare.

    A pipeline that was killed goes on with the first job that has not finished.
    """
    began = time.monotonic()
    prepare_data(cfg)
    names = _names(cfg, objective)
    for name in names:
        find_checkpoint(cfg, name)
    rows: list[dict[str, Any]] = [
        {"name": _label(name), "results": [_done(cfg, _evaluation_of(name))]} for name in names
    ]
    for name in names:
        if _outputs_of(name) in cfg.derived.jobs:
            _done(cfg, _outputs_of(name))
    for label in (_ALONE, _DISTILLED):
        results = []
        for seed in cfg.seeds:
            _done(cfg, _student(label, seed))
            results.append(_done(cfg, f"{_student(label, seed)}/evaluation"))
        rows.append({"name": label.replace("_", " "), "results": results})
    files = write_comparison(rows, folder, costs=rows)
    evaluated = {
        int(seed): (
            folder / _student(_DISTILLED, seed) / "evaluation",
            folder / _student(_ALONE, seed) / "evaluation",
        )
        for seed in cfg.seeds
    }
    threat, confidence = instantiate(cfg.threat).describe(), float(cfg.evaluation.confidence)
    result = {
        **result_header(cfg, digest),
        "threat": threat,
        "models": rows,
        "comparisons": paired("distilled", "alone", evaluated, confidence, threat),
        "seconds": round(time.monotonic() - began, 3),
        "files": files,
    }
    write_result(folder, result)
    return result


def show(result: Mapping[str, Any], cfg: DictConfig) -> None:
    """Print the table, and how the two students differ sample by sample."""
    print_comparison(result["models"])
    print_costs(result["models"])
    for line in result["comparisons"]:
        print(line["text"])
    log.info("table, plots and result.json in %s", cfg.run.folder)


def show_finished(folder: Path) -> None:
    """Print the table of a pipeline that is finished, and how to run it anew."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    print(f"{folder}: this pipeline is finished; its table again (run.name=NAME runs it anew, in another folder):")
    print_comparison(result["models"])
    print_costs(result["models"])
    for line in result["comparisons"]:
        print(line["text"])


def score(result: Mapping[str, Any]) -> float:
    """The distilled students' mean worst-case accuracy."""
    worst = [entry["evaluation"]["worst_case"]["accuracy"] for entry in result["models"][-1]["results"]]
    return float(sum(worst) / len(worst))
