"""One job of the benchmark done: its teachers, its student, its evaluation, each once in its run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kdrobust.benchmark.plan import Job
from kdrobust.benchmark.records import identity
from kdrobust.benchmark.suite import Tuning
from kdrobust.config import compose, config_hash, ensure, numbers
from kdrobust.errors import UsageError
from kdrobust.evaluation import per_class, read_samples
from kdrobust.losses import Objective
from kdrobust.stages.implied import OWN_STEPS, is_implied, teacher_config, teacher_node
from kdrobust.stages.run import quiet, resolve
from kdrobust.stages.setup import check_method
from kdrobust.stages.teachers import asked_teachers, find_checkpoint, once, teacher_problems
from kdrobust.sweeps.progress import duration
from kdrobust.sweeps.search import parse_search
from kdrobust.sweeps.session import quoted

#: A trial that took less was trained before: the other seeds of a method find them all.
_TOLD_SECONDS = 5.0


def training_config(job: Job, root: Path, further: tuple[str, ...] = ()) -> DictConfig:
    """The config of stage `distill` that trains a job's student.

    Args:
        job: the job.
        root: where run folders are made.
        further: overrides after the job's own.

    Raises:
        UsageError: anything that composition refuses.
    """
    return compose("distill", [*job.training, f"run.root={quoted(str(root))}", *further])


def tuned_config(job: Job, root: Path, proposed: tuple[str, ...]) -> DictConfig:
    """The config that trains a job's student with what a search proposes; its teachers stay those it has without.

    Args:
        job: the job.
        root: where run folders are made.
        proposed: overrides, the search's.

    Raises:
        UsageError: anything that composition refuses, or a proposal that changes a teacher.
    """
    plain = training_config(job, root)
    asked = asked_teachers(plain, Objective(numbers(plain.method)))
    trained = [name for name in asked if is_implied(plain, name)]
    keys = [key for text in proposed if (key := text.partition("=")[0]).split(".")[0] in OWN_STEPS]
    trainings = sorted({str(teacher_node(plain, name).training) for name in trained})
    kept = [f"+{training}.{key}={OmegaConf.select(plain, key)}" for training in trainings for key in keys]
    cfg = training_config(job, root, (*kept, *proposed))
    for name in trained:
        if config_hash(teacher_config(cfg, name)) != config_hash(teacher_config(plain, name)):
            raise UsageError(f"{job.label}: {' '.join(proposed)}: changes its teacher, a search is the student's alone")
    return cfg


def evaluation_config(job: Job, root: Path, checkpoint: Path) -> DictConfig:
    """The config of stage `evaluate` that measures a checkpoint as a job's student is measured.

    Raises:
        UsageError: anything that composition refuses.
    """
    place = [f"run.root={quoted(str(root))}", f"run.name={quoted(checkpoint.parent.name)}"]
    return compose("evaluate", [*job.evaluation, *place, f"checkpoint={quoted(str(checkpoint))}"])


def check_job(job: Job, root: Path) -> None:
    """Refuse a job that cannot run, before anything slow.

    Raises:
        UsageError: what is wrong with it, one line each.
    """
    quiet()
    cfg = training_config(job, root)
    cfg.run.folder = str(root)
    check_method(cfg, teachers=teacher_problems)
    if job.tune is not None:
        space = parse_search(job.method, {"space": job.tune.spaces[job.method], "seed": job.tune.seed}).space
        tuned_config(job, root, tuple(each.override(each.values[-1] if each.values else each.high) for each in space))
    measured = evaluation_config(job, root, root / student_checkpoint(cfg))
    measured.run.folder = str(root)
    ensure(measured)


def do(job: Job, root: Path) -> dict[str, Any]:
    """Train and measure; what was finished before is taken as it is.

    Args:
        job: the job.
        root: where run folders are made.

    Returns:
        The job's record, see `schema/records.json`.

    Raises:
        KdrobustError: it cannot be done.
    """
    quiet()
    tuned = job.tuned or (None if job.tune is None else _tuned(job, job.tune, root))
    cfg = tuned_config(job, root, tuple(tuned["overrides"])) if tuned else training_config(job, root)
    config = resolve(cfg)
    # before the student's clock starts
    asked = asked_teachers(config, Objective(numbers(config.method)))
    teachers = {name: find_checkpoint(config, name) for name in asked}
    begun, clock = Path(config.run.folder).exists(), time.process_time()
    trained, result = _run(cfg, f"training {job.label}")
    # of a training that went on from an earlier process only a part would be counted
    cpu = {} if begun else {"training_cpu": round(time.process_time() - clock, 3)}
    place, evaluated = _evaluated(job, root, trained / student_checkpoint(cfg))
    # last: whoever measures a teacher of many students first lets the others train meanwhile
    measured = {name: _evaluated(job, root, path) for name, path in teachers.items()}
    record = {
        **identity(job),
        "digest": job.digest,
        "config_hash": result["config_hash"],
        "epochs": job.epochs,
        "passes": job.passes,
        **({"tuned": tuned} if tuned else {}),
        "validation": {key: round(value, 6) for key, value in result["validation"].items()},
        "seconds": {"training": result["seconds"], "evaluation": evaluated["seconds"], **cpu},
        **figures(place, evaluated),
        "teachers": {name: _beside(place, *found) for name, found in measured.items()},
    }
    if climbed := result["attack"].get("climbed"):
        record["climbed"] = climbed
    if result["warnings"]:
        record["warnings"] = result["warnings"]
    return record


def student_checkpoint(cfg: DictConfig) -> str:
    """The file of a training that is measured: averaged weights where some were asked for, else the best epoch's.

    Args:
        cfg: of the training.
    """
    return "averaged.ckpt" if cfg.callbacks.get("average") else "best.ckpt"


def figures(folder: Path, evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """A model's size and figures, out of a finished evaluation: counts of samples, none of them rounded.

    `robust` is over the attacks on the model itself. Examples of a student's own teacher are told, and do not count:
    a student without a teacher meets none.

    Args:
        folder: of stage `evaluate`.
        evaluated: its result.
    """
    found, samples = evaluated["evaluation"], read_samples(folder / "samples.npz")
    stands = _stands(samples)
    worst = per_class(samples["labels"], stands).worst
    return {
        "parameters": evaluated["model"]["parameters"],
        "flops": evaluated["model"]["flops"],
        "threat": {"norm": found["threat"]["norm"], "eps": found["threat"]["eps"]},
        "n": found["n"],
        "clean": found["clean"]["correct"],
        "attacks": {name: outcome["correct"] for name, outcome in found["attacks"].items()},
        "robust": int(stands.sum()),
        "worst_class": worst and {"label": worst.label, "accuracy": worst.accuracy},
        "unreliable": found["unreliable"],
        "reasons": found["reasons"],
        "versions": {name: evaluated["versions"][name] for name in ("kdrobust", "torch")},
    }


def _stands(samples: Mapping[str, Any]) -> Any:
    attacks = [
        verdicts
        for name, verdicts in samples.items()
        if verdicts.dtype == np.bool_ and name != "worst_case" and "_from_" not in name
    ]
    return np.logical_and.reduce(attacks)


def _beside(place: Path, folder: Path, evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """A teacher's own figures, and how its student's answers compare with them, sample by sample."""
    student, teacher = read_samples(place / "samples.npz"), read_samples(folder / "samples.npz")
    own = figures(folder, evaluated)
    return {
        "sha256": evaluated["checkpoint"]["sha256"],
        **{key: own[key] for key in ("parameters", "flops", "n", "clean", "robust", "unreliable")},
        "worst_class": own["worst_class"],
        "agreement": int((student["clean/predicted"] == teacher["clean/predicted"]).sum()),
        "kept": int((_stands(student) & _stands(teacher)).sum()),
    }


def _run(cfg: DictConfig, what: str) -> tuple[Path, dict[str, Any]]:
    """A composed config's run folder and result, run now unless it is finished; its table is not printed."""
    folder = once(resolve(cfg), what, together=False)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return folder, result


def _evaluated(job: Job, root: Path, checkpoint: Path) -> tuple[Path, dict[str, Any]]:
    return _run(evaluation_config(job, root, checkpoint), f"evaluating {checkpoint.parent.name}")


def _tuned(job: Job, tune: Tuning, root: Path) -> dict[str, Any]:
    """The best of so many trainings by robust validation accuracy: the method's own values, then Optuna's proposals.

    Proposals follow from the seed and the figures so far, so a search that was cut proposes the same again, and finds
    those trainings finished.
    """
    import optuna

    from kdrobust.sweeps.study import distribution, sampler_of

    search = parse_search(job.method, {"space": tune.spaces[job.method], "seed": tune.seed})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    found: list[tuple[float, list[str]]] = []
    for number in range(tune.trials):
        proposed: list[str] = []
        trial = None
        if number:
            study.sampler = sampler_of(search, number)
            trial = study.ask({parameter.key: distribution(parameter) for parameter in search.space})
            proposed = [f"{key}={value}" for key, value in trial.params.items()]
        cfg = tuned_config(job, root, (*proposed, f"seed={tune.seed}"))
        began, place = time.monotonic(), f"trial {number + 1} of {tune.trials}"
        validation = _run(cfg, f"tuning {job.label}, {place}")[1]["validation"]
        score, took = float(validation["robust_accuracy"]), time.monotonic() - began
        if took > _TOLD_SECONDS:
            rest = duration(took * (tune.trials - number - 1))
            print(
                f"{job.label}: {place}: {100 * score:.1f}% robust on validation in {duration(took)}; "
                f"{rest} of tuning to go",
                flush=True,
            )
        if trial is not None:
            study.tell(trial, score)
        found.append((score, proposed))
    score, best = max(found, key=lambda pair: pair[0])
    return {"overrides": best, "trials": tune.trials, "robust_validation_accuracy": score}
