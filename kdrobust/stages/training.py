"""Fit a module and write down what came of it: the middle of stages `teacher` and `distill`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from kdrobust.attacks import AttackCallback, Threat
from kdrobust.config import instantiate, to_plain
from kdrobust.data import DataModule
from kdrobust.distributed import ConfigDDPStrategy, SameConfig, finish_ranks
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.evaluation import model_cost
from kdrobust.models import checkpoint_payload, file_hash, load_weights, read_checkpoint
from kdrobust.modules import AveragedWeights, CollapseWarning, OverfittingWarning, RobustModule, RobustValidation
from kdrobust.stages import figures
from kdrobust.stages.run import rank_command
from kdrobust.stages.setup import is_main_process, log, model_config, result_header
from kdrobust.tracking import write_result
from kdrobust.tracking.metrics import MetricsCsv
from kdrobust.tracking.recorder import close_all, record_all, recorders


def module_arguments(cfg: DictConfig, model_node: DictConfig, data: DataModule) -> dict[str, Any]:
    """The arguments that a stage's LightningModule takes from its config."""
    scheduler = instantiate(cfg.scheduler)
    payload = checkpoint_payload(
        model=model_config(model_node), spec=data.spec, stage=str(cfg.stage), threat=instantiate(cfg.threat).describe()
    )
    return {
        "optimizer": instantiate(cfg.optimizer),
        "scheduler": scheduler if scheduler.get("factory") else None,
        "seed": int(cfg.seed),
        "payload": payload,
    }


def build_trainer(cfg: DictConfig, folder: Path, digest: str) -> pl.Trainer:
    """The Lightning trainer of a config, its other ranks started from the run folder's resolved config."""
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    callbacks.append(SameConfig(digest))
    if cfg.run.get("trial") is not None:
        # Optuna is slow to import: only a search's jobs pay for it
        from kdrobust.sweeps.pruning import trial_report

        callbacks += trial_report(folder, int(cfg.run.trial))
    loggers = [MetricsCsv(folder), *(instantiate(node) for node in (cfg.logger or {}).values())]
    factory = instantiate(cfg.trainer)
    strategy = factory.keywords.get("strategy")
    if isinstance(strategy, ConfigDDPStrategy):
        strategy.rank_command = rank_command(str(cfg.stage), folder)
    try:
        trainer: pl.Trainer = factory(callbacks=callbacks, logger=loggers, default_root_dir=str(folder))
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from None
    return trainer


def fit(module: RobustModule, data: DataModule, cfg: DictConfig, folder: Path, digest: str) -> pl.Trainer:
    """Train, or go on where an earlier process stopped.

    Raises:
        KdrobustError: training failed for a reason the user can mend.
    """
    trainer = build_trainer(cfg, folder, digest)
    last = folder / "last.ckpt"
    resume = None
    if last.exists():
        resume = read_checkpoint(last)
        log.info("%s: going on after epoch %d", folder, resume["epoch"])
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.resume(int(resume["epoch"]))
    failed = True
    try:
        for recorder in recorders(trainer.loggers):
            recorder.begin(to_plain(cfg))
        trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
        failed = False
    finally:
        launcher = trainer.strategy.launcher
        finish_ranks(getattr(launcher, "procs", []), failed=failed)
        if failed:
            close_all(trainer.loggers, failed=True)
    return trainer


def _find(trainer: pl.Trainer, kind: type[Any]) -> Any:
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]


def _best_row(trainer: pl.Trainer, epoch: int) -> Mapping[str, Any]:
    logger = next(logger for logger in trainer.loggers if isinstance(logger, MetricsCsv))
    return next((row for row in logger.rows if int(row["epoch"]) == epoch), {})


def finish(
    trainer: pl.Trainer,
    module: RobustModule,
    data: DataModule,
    cfg: DictConfig,
    folder: Path,
    digest: str,
    *,
    started: float,
    teacher: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Take the best epoch's weights, draw the plots, write `result.json`; returns the result.

    The trainer's loggers are closed, whatever happens.

    Raises:
        CheckpointError: no epoch was finished.
    """
    if not is_main_process():
        return {}
    failed = True
    try:
        result = _result(trainer, module, data, cfg, folder, digest, started=started, teacher=teacher)
        write_result(folder, result)
        record_all(trainer.loggers, result, folder)
        failed = False
    finally:
        close_all(trainer.loggers, failed=failed)
    validation = result["validation"]
    summary = ", ".join(_shown(name, validation[name]) for name in module.metric_names() if name in validation)
    log.info("%s: best epoch %d of validation: %s", cfg.run.name, validation["epoch"] + 1, summary)
    log.info("%s: results in %s", cfg.run.name, folder)
    return result


def _result(
    trainer: pl.Trainer,
    module: RobustModule,
    data: DataModule,
    cfg: DictConfig,
    folder: Path,
    digest: str,
    *,
    started: float,
    teacher: Mapping[str, Any] | None,
) -> dict[str, Any]:
    best = folder / "best.ckpt"
    if not best.exists():
        raise CheckpointError(f"{best}: no epoch was finished and validated; raise epochs or trainer.max_time")
    checkpoint = read_checkpoint(best)
    load_weights(module.model, checkpoint, best)
    module.model.eval().cpu()
    row = _best_row(trainer, int(checkpoint["epoch"]))
    validation: dict[str, Any] = {"samples": len(data.split("validation").labels), "epoch": int(checkpoint["epoch"])}
    for name in module.metric_names():
        if f"val/{name}" in row:
            validation[name] = float(row[f"val/{name}"])
    threat: Threat = instantiate(cfg.threat)
    cost = model_cost(module.model, data.spec)
    attack, robust, average = (_find(trainer, kind) for kind in (AttackCallback, RobustValidation, AveragedWeights))
    warners = [_find(trainer, kind) for kind in (CollapseWarning, OverfittingWarning)]
    files = figures.training(folder, module.model, data, attack=robust.attack if robust else None, seed=int(cfg.seed))
    return {
        **result_header(cfg, digest),
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "model": {"parameters": cost.parameters, "flops": cost.flops, "size_bytes": cost.size_bytes},
        "threat": threat.describe(),
        "attack": attack.describe() if attack and module.objective.needs_attack else {},
        "validation_attack": robust.attack.describe() if robust else {},
        "weights": module.objective.describe(),
        "validation": validation,
        "checkpoint": {"path": str(best), "sha256": file_hash(best)},
        "teacher": dict(teacher) if teacher else None,
        "seconds": round(time.monotonic() - started, 3),
        "averaged": average.summary() if average else None,
        "warnings": [message for warner in warners if warner for message in warner.messages],
        "files": files,
    }


def _shown(name: str, value: float) -> str:
    # divergences are in nats, everything else is a share
    return f"{name} {value:.3f}" if "kl_" in name else f"{name} {value:.1%}"


def score(result: Mapping[str, Any]) -> float | None:
    """What a sweep maximises: robust validation accuracy, or clean accuracy where nothing was attacked."""
    validation = result.get("validation", {})
    value = validation.get("robust_accuracy", validation.get("accuracy"))
    return None if value is None else float(value)
