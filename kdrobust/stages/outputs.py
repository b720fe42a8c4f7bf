"""Stage `outputs`: ask the teacher once, store what it says, and let students learn without it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from kdrobust.config import instantiate, settings
from kdrobust.data import DataModule
from kdrobust.models import file_hash, read_checkpoint
from kdrobust.stages.setup import (
    check_config,
    choose_device,
    data_header,
    log,
    prepare_data,
    require_file,
    result_header,
    set_threads,
)
from kdrobust.stages.shown import restore_teacher
from kdrobust.stages.stored import FILE, MANIFEST, SPLITS, write_stored
from kdrobust.tracking import write_result
from kdrobust.tracking.recorder import close_all, record_all, recorders


@torch.no_grad()
def teacher_logits(model: nn.Module, data: DataModule, split: str, device: torch.device) -> Tensor:
    """The teacher's logits on every sample of a split, in the split's order, [N, K] on the CPU."""
    samples = data.split(split)
    chunks = torch.split(torch.arange(len(samples.labels)), data.eval_batch_size)
    return torch.cat([model(samples.pixels(rows).to(device)).float().cpu() for rows in chunks])


def check(cfg: DictConfig, problems: Sequence[str]) -> None:
    """Refuse a config that cannot run."""
    check_config(cfg, problems)


def require(cfg: DictConfig, _checked: None) -> None:
    """Refuse a checkpoint that is not there or cannot be read."""
    read_checkpoint(_checkpoint(cfg))


def _checkpoint(cfg: DictConfig) -> Path:
    return require_file(cfg.teacher.checkpoint, "teacher.checkpoint", "train one with `kdrobust teacher`")


def run(cfg: DictConfig, folder: Path, digest: str, _checked: None) -> dict[str, Any]:
    """Store the clean logits of `cfg.teacher.checkpoint` on all three splits of `cfg.data`."""
    started = time.monotonic()
    path = _checkpoint(cfg)
    data = prepare_data(cfg)
    model = restore_teacher(path, data.spec, cfg.teacher.get("transform"))
    device = choose_device(cfg.trainer)
    model = model.to(device).eval()
    set_threads(cfg, model, data.spec, data.eval_batch_size)
    logits = {split: teacher_logits(model, data, split, device) for split in SPLITS}
    origin = {"path": str(path), "sha256": file_hash(path)}
    write_stored(folder, logits, data=data, checkpoint=origin)
    accuracy = {
        split: float((tensor.argmax(dim=1) == data.split(split).labels).float().mean())
        for split, tensor in logits.items()
        if split != "test" and not data.unlabelled
    }
    result = {
        **result_header(cfg, digest),
        "data": data_header(data),
        "checkpoint": origin,
        "outputs": {"accuracy": accuracy, "shapes": {split: list(t.shape) for split, t in logits.items()}},
        "seconds": round(time.monotonic() - started, 3),
        "files": {"outputs": FILE, "manifest": MANIFEST},
    }
    write_result(folder, result)
    _tell_loggers(cfg, result, folder)
    shown = ", ".join(f"{split} {value:.1%}" for split, value in accuracy.items()) or "no labels to tell"
    log.info("teacher's clean logits stored in %s (its accuracy: %s)", folder, shown)
    return result


def score(_result: Mapping[str, Any]) -> None:
    """Storing has no score."""


def _tell_loggers(cfg: DictConfig, result: Mapping[str, Any], folder: Path) -> None:
    loggers = [instantiate(node) for node in (cfg.get("logger") or {}).values()]
    failed = True
    try:
        for recorder in recorders(loggers):
            recorder.begin(settings(cfg))
        record_all(loggers, result, folder)
        failed = False
    finally:
        close_all(loggers, failed=failed)
