"""Stage `teacher`: train the large model, robustly."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from kdrobust.distributed import world_size
from kdrobust.modules import TeacherModule
from kdrobust.stages.networks import check_batch
from kdrobust.stages.setup import (
    check_method,
    new_classifier,
    open_run,
    prepare_data,
    prepare_objective,
    set_threads,
)
from kdrobust.stages.training import finish, fit, module_arguments, score


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Train `cfg.teacher` by `cfg.method` on `cfg.data`; returns its robust validation accuracy."""
    objective = check_method(cfg)
    started = time.monotonic()
    with open_run(cfg, folder) as digest:
        data = prepare_data(cfg)
        model = new_classifier(cfg.teacher, data.spec, int(cfg.seed))
        check_batch(model, data, world_size(cfg.trainer))
        prepare_objective(objective, {"student": model}, data.spec, int(cfg.seed))
        set_threads(cfg, model, data.spec, data.batch_size)
        module = TeacherModule(model=model, objective=objective, **module_arguments(cfg, cfg.teacher, data))
        trainer = fit(module, data, cfg, folder, digest)
        result = finish(trainer, module, data, cfg, folder, digest, started=started)
    return score(result)
