"""Stage `prune`: a checkpoint with its weakest channels taken out, as a checkpoint of a smaller network."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kdrobust.config.numbers import as_number
from kdrobust.evaluation import model_cost
from kdrobust.models import (
    Classifier,
    checkpoint_payload,
    file_hash,
    prune_channels,
    read_checkpoint,
    restore_classifier,
    stored_spec,
)
from kdrobust.stages.setup import check_config, log, require_file, result_header
from kdrobust.tracking import write_bytes, write_result


def check(cfg: DictConfig, problems: Sequence[str]) -> None:
    """Refuse a config that cannot run."""
    check_config(cfg, problems)


def require(cfg: DictConfig, _checked: None) -> None:
    """Refuse a checkpoint that is not there, or whose network has no channels that can go."""
    _prune(cfg)


def _prune(cfg: DictConfig) -> tuple[Path, Classifier, Classifier, dict[str, Any]]:
    path = require_file(cfg.checkpoint, "checkpoint", "train a model with `kdrobust teacher` or `kdrobust distill`")
    checkpoint = read_checkpoint(path)
    model = restore_classifier(path, checkpoint)
    network = checkpoint["kdrobust"]["model"]["network"]
    amount = as_number(cfg.amount)
    return path, model, *prune_channels(model, network, spec=stored_spec(checkpoint), amount=amount)


def run(cfg: DictConfig, folder: Path, digest: str, _checked: None) -> dict[str, Any]:
    """Prune `cfg.checkpoint` by `cfg.amount` and write it as `best.ckpt`; no data are read."""
    path, model, pruned, network = _prune(cfg)
    checkpoint = read_checkpoint(path)
    payload, spec = checkpoint["kdrobust"], stored_spec(checkpoint)
    described = checkpoint_payload(
        model={"network": network, "normalize": payload["model"]["normalize"]},
        spec=spec,
        stage="prune",
        threat=payload.get("threat"),
    )
    buffer = io.BytesIO()
    weights = {f"model.{name}": value for name, value in pruned.state_dict().items()}
    torch.save({"kdrobust": described, "state_dict": weights}, buffer)
    write_bytes(folder / "best.ckpt", buffer.getvalue())
    before, after = model_cost(model, spec), model_cost(pruned, spec)
    result = {
        **result_header(cfg, digest),
        "model": vars(after),
        "checkpoint": {"path": str(folder / "best.ckpt"), "sha256": file_hash(folder / "best.ckpt")},
        "pruned": {
            "from": {"path": str(path), "sha256": file_hash(path)},
            "amount": as_number(cfg.amount),
            "network": network,
            "before": vars(before),
        },
    }
    write_result(folder, result)
    return result


def show(result: Mapping[str, Any], cfg: DictConfig) -> None:
    """Say what is left, and how to fine-tune it."""
    folder = cfg.run.folder
    left, whole = result["model"]["parameters"], result["pruned"]["before"]["parameters"]
    log.info(
        "%s: %d of %d parameters left in %s; fine-tune it: kdrobust distill +student.checkpoint=%s/best.ckpt",
        cfg.run.name, left, whole, folder, folder,
    )  # fmt: skip


def score(_result: Mapping[str, Any]) -> None:
    """What is pruned has no score before it is fine-tuned."""
