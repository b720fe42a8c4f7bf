"""Where a student's teacher comes from: a checkpoint, stored outputs, or a training made on the spot."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from kdrobust.attacks import goals
from kdrobust.config import run_folder
from kdrobust.data import DataModule
from kdrobust.errors import RunFolderBusyError, UsageError
from kdrobust.losses import Objective
from kdrobust.models import check_spec, file_hash, read_checkpoint, restore_classifier
from kdrobust.stages.setup import is_main_process, log, require_file
from kdrobust.stages.stored import attach_stored, read_stored
from kdrobust.tracking import is_finished

TEACHER_KEYS = (
    "trusted_modules",
    "threads",
    "data",
    "teacher",
    "threat",
    "optimizer",
    "scheduler",
    "trainer",
    "callbacks",
    "logger",
    "ema",
)
_WAIT_SECONDS = 6 * 3600.0


def teacher_config(cfg: DictConfig) -> DictConfig:
    """The config of stage `teacher` that a student's config implies (`teacher_training` holds what differs)."""
    training = cfg.teacher_training
    merged = {key: OmegaConf.masked_copy(cfg, key)[key] for key in TEACHER_KEYS}
    teacher = merged["teacher"].copy()
    for key in ("checkpoint", "outputs"):
        teacher.pop(key, None)
    merged |= {
        "stage": "teacher",
        "teacher": teacher,
        "method": training.method.copy(),
        "attack": training.attack.copy(),
        "seed": training.seed,
        "epochs": training.epochs,
        "run": {"name": training.name, "root": cfg.run.root, "folder": None},
    }
    return OmegaConf.create(merged)


def _train_once(cfg: DictConfig) -> Path:
    """The best checkpoint of the teacher a config implies; trained now unless some run has finished it."""
    from kdrobust.stages import teacher

    config = teacher_config(cfg)
    folder = run_folder(config, reuse_finished=True)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_finished(folder):
        try:
            log.info("teacher.checkpoint=auto: training the teacher in %s (once; later runs reuse it)", folder)
            config.run.folder = str(folder)
            teacher.run(config, folder)
        except RunFolderBusyError:
            # another job of the same sweep is training it
            if time.monotonic() > deadline:
                raise
            time.sleep(2.0)
    return folder / "best.ckpt"


def find_checkpoint(cfg: DictConfig) -> Path:
    """The teacher's checkpoint, trained first where `teacher.checkpoint=auto` finds none.

    Raises:
        UsageError: a checkpoint is named that does not exist.
    """
    if str(cfg.teacher.checkpoint) == "auto":
        return _train_once(cfg)
    return require_file(
        cfg.teacher.checkpoint,
        "teacher.checkpoint",
        "train one with `kdrobust teacher`, or set teacher.checkpoint=auto",
    )


def _climbed(cfg: DictConfig, objective: Objective) -> str:
    # text, because the goal may also be a node that names the function; nothing is climbed without an attack
    return str(cfg.attack.get("goal", "")) if objective.needs_attack and cfg.get("attack") else ""


def needs_live_teacher(cfg: DictConfig, objective: Objective) -> bool:
    """Whether the method or its attack asks a teacher about attacked inputs, which stored outputs cannot answer."""
    beyond = any(reference.model != "student" and reference.view != "clean" for reference in objective.references)
    return beyond or any(name in _climbed(cfg, objective) for name in goals.NEED_LIVE_TEACHER)


def load_teacher(
    cfg: DictConfig, objective: Objective, data: DataModule
) -> tuple[dict[str, nn.Module], Mapping[str, Any] | None]:
    """The teachers a method names, ready to answer.

    Args:
        cfg: the config of stage `distill`.
        objective: says whether a teacher is needed, and on which views.
        data: the student's data; stored outputs are attached to it.

    Returns:
        Name to frozen model (empty where none is needed, or stored outputs answer for it), and what `result.json`
        says about the teacher.

    Raises:
        UsageError: a file that does not exist, or stored outputs for a method whose teacher must see attacked inputs.
        CheckpointError: a checkpoint or outputs that do not fit the data.
    """
    if not objective.teachers and "teacher" not in _climbed(cfg, objective):
        return {}, None
    strangers = objective.teachers - {"teacher"}
    if strangers:
        raise UsageError(f"method: no teacher named {', '.join(sorted(strangers))} is configured")
    if cfg.teacher.outputs is not None:
        folder = require_file(cfg.teacher.outputs, "teacher.outputs", "make it with `kdrobust outputs`")
        if needs_live_teacher(cfg, objective):
            raise UsageError(
                "teacher.outputs: this method asks the teacher about attacked inputs, which cannot be stored; "
                "set teacher.outputs=null"
            )
        manifest = read_stored(folder)
        attach_stored(folder, manifest, data)
        return {}, {"outputs": str(folder), "sha256": manifest["checkpoint"]["sha256"]}
    path = find_checkpoint(cfg)
    checkpoint = read_checkpoint(path)
    check_spec(checkpoint, data.spec, path)
    teacher = restore_classifier(path).eval().requires_grad_(False)
    if is_main_process():
        log.info("teacher: %s", path)
    return {"teacher": teacher}, {"checkpoint": str(path), "sha256": file_hash(path)}
