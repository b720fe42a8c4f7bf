"""Stage `pipeline`: the four steps in one: teacher, its outputs, students, and the comparison under attack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from kdrobust.config import instantiate
from kdrobust.losses import Objective
from kdrobust.stages import distill, evaluate, outputs
from kdrobust.stages.comparison import paired, print_comparison, print_costs, write_comparison
from kdrobust.stages.detection import misplaced
from kdrobust.stages.setup import check_method, log, open_run, prepare_data, result_header
from kdrobust.stages.teachers import asked_teachers, find_checkpoint, needs_live_teacher, teacher_problems
from kdrobust.tracking import is_finished, write_result

_OWN = ("seeds", "baseline", "evaluation", "stage", "seed", "run")


def _stage(cfg: DictConfig, stage: str, folder: Path, name: str, **changes: Any) -> DictConfig:
    """The config of another stage, out of the pipeline's own nodes."""
    kept = {str(key): OmegaConf.masked_copy(cfg, str(key))[key] for key in cfg if key not in _OWN}
    run = {"name": name, "root": cfg.run.root, "folder": str(folder)}
    return OmegaConf.create({**kept, "seed": int(cfg.seed), "stage": stage, "run": run, **changes})


def _read(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def _evaluated(cfg: DictConfig, checkpoint: Path, folder: Path, name: str) -> dict[str, Any]:
    if not is_finished(folder):
        log.info("evaluating %s", name)
        config = OmegaConf.create(
            {
                "stage": "evaluate",
                "seed": int(cfg.seed),
                "run": {"name": name, "root": cfg.run.root, "folder": str(folder)},
                "trusted_modules": cfg.trusted_modules,
                "threads": cfg.threads,
                "checkpoint": str(checkpoint),
                **{key: OmegaConf.masked_copy(cfg, key)[key] for key in ("data", "threat", "trainer", "evaluation")},
            }
        )
        evaluate.measure_and_write(config, folder)
    return _read(folder)


def _student(cfg: DictConfig, label: str, seed: int, folder: Path, **changes: Any) -> Path:
    if not is_finished(folder):
        config = _stage(cfg, "distill", folder, f"{label} seed {seed}", seed=seed, **changes)
        log.info("training %s, seed %d", label, seed)
        distill.run(config, folder)
    return folder / "best.ckpt"


def _stored_outputs(cfg: DictConfig, teacher: DictConfig | ListConfig, folder: Path) -> Path:
    if not is_finished(folder):
        outputs.run(_stage(cfg, "outputs", folder, "teacher's outputs", teacher=teacher), folder)
    return folder


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


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Train and compare; returns the distilled students' mean worst-case accuracy.

    A pipeline that was killed goes on with the first step that has not finished.
    """
    objective = check_method(cfg, teachers=_problems)
    began = time.monotonic()
    with open_run(cfg, folder) as digest:
        prepare_data(cfg)
        teacher = find_checkpoint(cfg)
        rows: list[dict[str, Any]] = [
            {"name": "teacher", "results": [_evaluated(cfg, teacher, folder / "teacher_evaluation", "teacher")]}
        ]
        node = OmegaConf.merge(cfg.teacher, {"checkpoint": str(teacher)})
        storable = "teacher" in asked_teachers(cfg, objective) and not needs_live_teacher(cfg, objective)
        if storable and cfg.data.get("augmentation") is None:
            stored = _stored_outputs(cfg, node, folder / "teacher_outputs")
            node = OmegaConf.merge(node, {"outputs": str(stored)})
        alone = {"method": cfg.baseline.method.copy(), "attack": cfg.baseline.attack.copy()}
        for label, changes in (("student alone", alone), ("student distilled", {"teacher": node})):
            results = []
            for seed in cfg.seeds:
                place = folder / label.replace(" ", "_") / f"seed_{seed}"
                checkpoint = _student(cfg, label, int(seed), place, **changes)
                results.append(_evaluated(cfg, checkpoint, place / "evaluation", f"{label} seed {seed}"))
            rows.append({"name": label, "results": results})
        files = write_comparison(rows, folder, costs=rows)
        places = {
            int(seed): (folder / f"student_distilled/seed_{seed}", folder / f"student_alone/seed_{seed}")
            for seed in cfg.seeds
        }
        evaluated = {seed: (one / "evaluation", other / "evaluation") for seed, (one, other) in places.items()}
        threat, confidence = instantiate(cfg.threat).describe(), float(cfg.evaluation.confidence)
        comparisons = paired("distilled", "alone", evaluated, confidence, threat)
        result = {
            **result_header(cfg, digest),
            "threat": threat,
            "models": rows,
            "comparisons": comparisons,
            "seconds": round(time.monotonic() - began, 3),
            "files": files,
        }
        write_result(folder, result)
    print_comparison(rows)
    print_costs(rows)
    for line in comparisons:
        print(line["text"])
    log.info("table, plots and result.json in %s", folder)
    worst = [entry["evaluation"]["worst_case"]["accuracy"] for entry in rows[-1]["results"]]
    return float(sum(worst) / len(worst))
