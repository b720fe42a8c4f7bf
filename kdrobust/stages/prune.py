"""Stage `prune`: a checkpoint with its weakest channels taken out, as a checkpoint of a smaller network."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from omegaconf import DictConfig

from kdrobust.config.numbers import as_number
from kdrobust.evaluation import model_cost
from kdrobust.models import (
    checkpoint_payload,
    file_hash,
    prune_channels,
    read_checkpoint,
    restore_classifier,
    stored_spec,
)
from kdrobust.stages.setup import check_config, log, open_run, require_file, result_header
from kdrobust.tracking import write_bytes, write_result


def run(cfg: DictConfig, folder: Path) -> None:
    """Prune `cfg.checkpoint` by `cfg.amount` and write it as `best.ckpt`; no data are read."""
    check_config(cfg)
    path = require_file(cfg.checkpoint, "checkpoint", "train a model with `kdrobust teacher` or `kdrobust distill`")
    checkpoint = read_checkpoint(path)
    payload, spec = checkpoint["kdrobust"], stored_spec(checkpoint)
    model = restore_classifier(path, checkpoint)
    pruned, network = prune_channels(model, payload["model"]["network"], spec=spec, amount=as_number(cfg.amount))
    with open_run(cfg, folder) as digest:
        told = checkpoint_payload(
            model={"network": network, "normalize": payload["model"]["normalize"]},
            spec=spec,
            stage="prune",
            threat=payload.get("threat"),
        )
        buffer = io.BytesIO()
        weights = {f"model.{name}": value for name, value in pruned.state_dict().items()}
        torch.save({"kdrobust": told, "state_dict": weights}, buffer)
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
    log.info(
        "%s: %d of %d parameters left in %s; fine-tune it: kdrobust distill +student.checkpoint=%s",
        cfg.run.name, after.parameters, before.parameters, folder, folder / "best.ckpt",
    )  # fmt: skip
