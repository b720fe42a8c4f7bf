"""Stage `distill`: train a student on the labels and on what a frozen teacher knows."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from kdrobust.distributed import world_size
from kdrobust.modules import DistillationModule
from kdrobust.stages.networks import check_batch
from kdrobust.stages.setup import (
    check_method,
    open_run,
    prepare_data,
    prepare_objective,
    set_threads,
)
from kdrobust.stages.start import new_student
from kdrobust.stages.teachers import (
    load_teachers,
    new_partners,
    shared_answers,
    tapped_teachers,
    teacher_problems,
)
from kdrobust.stages.training import finish, fit, module_arguments, score


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Train `cfg.student` by `cfg.method`; returns its robust validation accuracy.

    A method that names no teacher trains the student alone, and none is loaded.
    """
    objective = check_method(cfg, teachers=teacher_problems)
    started = time.monotonic()
    with open_run(cfg, folder) as digest:
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
        result = finish(trainer, module, data, cfg, folder, digest, started=started, teacher=origin)
    return score(result)
