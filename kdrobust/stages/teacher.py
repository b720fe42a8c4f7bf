"""Stage `teacher`: train the large model, robustly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdrobust.distributed import world_size
from kdrobust.losses import Objective
from kdrobust.modules import TeacherModule
from kdrobust.stages.networks import check_batch
from kdrobust.stages.setup import check_method, new_classifier, prepare_data, prepare_objective, set_threads
from kdrobust.stages.training import finish, fit, module_arguments, score

__all__ = ["check", "run", "score"]


def check(cfg: DictConfig, problems: Sequence[str]) -> Objective:
    """Refuse a config that cannot run; returns the method's objective."""
    return check_method(cfg, problems)


def run(cfg: DictConfig, folder: Path, digest: str, objective: Objective) -> dict[str, Any]:
    """Train `cfg.teacher` by `cfg.method` on `cfg.data`."""
    started = time.monotonic()
    data = prepare_data(cfg)
    model = new_classifier(cfg.teacher, data.spec, int(cfg.seed))
    check_batch(model, data, world_size(cfg.trainer))
    prepare_objective(objective, {"student": model}, data.spec, int(cfg.seed))
    set_threads(cfg, model, data.spec, data.batch_size)
    module = TeacherModule(model=model, objective=objective, **module_arguments(cfg, cfg.teacher, data))
    trainer = fit(module, data, cfg, folder, digest)
    return finish(trainer, module, data, cfg, folder, digest, started=started)
