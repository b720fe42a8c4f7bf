"""Stage `distill`: train a student on the labels and on what a frozen teacher knows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdrobust.distributed import world_size
from kdrobust.losses import Objective
from kdrobust.modules import DistillationModule
from kdrobust.stages.networks import check_batch
from kdrobust.stages.setup import check_method, prepare_data, prepare_objective, set_threads
from kdrobust.stages.start import new_student
from kdrobust.stages.teachers import (
    asked_teachers,
    implied_teachers,
    load_teachers,
    new_partners,
    shared_answers,
    tapped_teachers,
    teacher_problems,
)
from kdrobust.stages.training import finish, fit, module_arguments, score

__all__ = ["check", "derive", "run", "score"]


def check(cfg: DictConfig, problems: Sequence[str]) -> Objective:
    """Refuse a config that cannot run; returns the method's objective."""
    return check_method(cfg, problems, teachers=teacher_problems)


def derive(cfg: DictConfig, objective: Objective) -> dict[str, Any]:
    """The configs of the teachers that the method asks and the config implies."""
    return {"teachers": implied_teachers(cfg, asked_teachers(cfg, objective))}


def run(cfg: DictConfig, folder: Path, digest: str, objective: Objective) -> dict[str, Any]:
    """Train `cfg.student` by `cfg.method`.

    A method that names no teacher trains the student alone, and none is loaded.
    """
    started = time.monotonic()
    data = prepare_data(cfg)
    model, node = new_student(cfg, data)
    check_batch(model, data, world_size(cfg.trainer))
    partners = new_partners(cfg, objective, data)
    # before a teacher is trained: a module path that is not there shall not cost one
    tapped = tapped_teachers(cfg, objective, data)
    prepare_objective(objective, {"student": model, **tapped, **partners}, data.spec, int(cfg.seed))
    teachers, origin = load_teachers(cfg, objective, data)
    set_threads(cfg, model, data.spec, data.batch_size)
    module = DistillationModule(
        model=model,
        objective=objective,
        teachers=teachers,
        partners=partners,
        teacher_precision=str(cfg.teacher.get("precision") or "exact"),
        **module_arguments(cfg, node, data),
    )
    shared = shared_answers(cfg, objective, data, teachers, origin)
    trainer = fit(module, data, cfg, folder, digest, first=shared)
    return finish(trainer, module, data, cfg, folder, digest, started=started, teacher=origin)
