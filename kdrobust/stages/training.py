"""Fit a module and write down what came of it: the middle of stages `teacher` and `distill`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from kdrobust.attacks import AttackCallback, Threat
from kdrobust.config import instantiate, settings
from kdrobust.config.trust import trusts, typed
from kdrobust.data import DataModule
from kdrobust.detection.calibration import write_calibration
from kdrobust.detection.pairs import Pairs
from kdrobust.distributed import ConfigDDPStrategy, SameConfig, finish_ranks
from kdrobust.errors import CheckpointError, StoppedError, UsageError
from kdrobust.evaluation import model_cost
from kdrobust.models import checkpoint_payload, file_hash, load_weights, read_checkpoint
from kdrobust.modules import (
    AveragedWeights,
    CheckpointFile,
    CollapseWarning,
    HeldFolder,
    NonFinite,
    OverfittingWarning,
    ResumePoint,
    RobustModule,
    RobustValidation,
    StepCount,
    Unprofiled,
    find_resume_point,
    place_of,
)
from kdrobust.stages import figures
from kdrobust.stages.run import rank_command
from kdrobust.stages.setup import data_header, log, model_config, result_header
from kdrobust.stages.training_checks import validated_samples
from kdrobust.tracking import damage, is_main_process, write_result
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
        "labelled": not data.unlabelled,
    }


def build_trainer(cfg: DictConfig, folder: Path, digest: str, first: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """The Lightning trainer of a config, its other ranks started from the run folder's resolved config.

    Args:
        cfg: the stage's config.
        folder: the run folder.
        digest: the config's hash.
        first: callbacks that act before the config's own.
    """
    callbacks = [*first, *(instantiate(node) for node in cfg.callbacks.values() if node is not None)]
    callbacks += [SameConfig(digest), StepCount(), HeldFolder()]
    if cfg.run.get("trial") is not None:
        # Optuna is slow to import: only a search's jobs pay for it
        from kdrobust.sweeps.pruning import trial_report

        callbacks += trial_report(folder, int(cfg.run.trial))
    loggers = [MetricsCsv(folder), *(instantiate(node) for node in (cfg.logger or {}).values())]
    factory = instantiate(cfg.trainer)
    strategy = factory.keywords.get("strategy")
    if isinstance(strategy, ConfigDDPStrategy):
        strategy.run_folder, strategy.rank_command = folder, rank_command(folder)
    try:
        trainer: pl.Trainer = factory(
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=str(folder),
            plugins=[CheckpointFile()],
            profiler=factory.keywords.get("profiler") or Unprofiled(),
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from None
    return trainer


def fit(
    module: RobustModule,
    data: DataModule,
    cfg: DictConfig,
    folder: Path,
    digest: str,
    *,
    first: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Train, or go on where an earlier process stopped.

    Args: as of `build_trainer`, and what is trained on what.

    Raises:
        KdrobustError: training failed for a reason the user can mend.
    """
    trainer = build_trainer(cfg, folder, digest, first)
    point = find_resume_point(folder / "last.ckpt")
    if point is not None:
        log.info("%s: going on after %s", folder, place_of(point[1]))
    # Lightning restores a checkpoint's weights before it makes the module double, which would round them
    trainer.strategy.precision_plugin.convert_module(module)
    failed = True
    try:
        for recorder in recorders(trainer.loggers):
            recorder.begin(settings(cfg))
        trainer.fit(module, datamodule=data, ckpt_path=point[0] if point else None, weights_only=True)
        failed = False
    except MisconfigurationException as error:
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from None
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            # Lightning makes an exit code 1 of a Ctrl-C that comes before its first step
            raise StoppedError(signal.SIGINT) from None
        if isinstance(ended, StoppedError) and is_main_process():
            _tell_stopped(ended, cfg, folder)
        raise
    finally:
        launcher = trainer.strategy.launcher
        try:
            finish_ranks(getattr(launcher, "procs", []), error=sys.exception() if failed else None)
        finally:
            if failed:
                close_all(trainer.loggers, failed=True)
    return trainer


def _tell_stopped(stopped: StoppedError, cfg: DictConfig, folder: Path) -> None:
    point = find_resume_point(folder / "last.ckpt")
    place = f"the resume point is {place_of(point[1])}" if point else "nothing was finished yet"
    command = f"kdrobust {cfg.stage} resume={folder} {typed(trusts(cfg))}".rstrip()
    log.info("%s: %s; %s; to go on: %s, or the same command again", cfg.run.name, stopped, place, command)


def _find(trainer: pl.Trainer, kind: type[Any]) -> Any:
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]


def time_spent(trainer: pl.Trainer, started: float) -> float:
    """Seconds of a training, those of processes that were killed at it included.

    Args:
        trainer: whose resume point says what they spent.
        started: reading of `time.monotonic` at which this process began.
    """
    point: ResumePoint | None = _find(trainer, ResumePoint)
    return time.monotonic() - started + (point.seconds_before if point else 0.0)


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
    if (found := damage(best)) is not None:
        raise CheckpointError(f"{best}: {found}; to train again from the start, delete this folder")
    checkpoint = read_checkpoint(best)
    load_weights(module.model, checkpoint, best)
    # pictures and figures are made as evaluation is, in single precision
    module.model.eval().cpu().float()
    row = _best_row(trainer, int(checkpoint["epoch"]))
    validation: dict[str, Any] = {"samples": validated_samples(cfg, data), "epoch": int(checkpoint["epoch"])}
    for name in module.metric_names():
        if f"val/{name}" in row:
            validation[name] = float(row[f"val/{name}"])
    threat: Threat = instantiate(cfg.threat)
    cost = model_cost(module.model, data.spec)
    attack, robust, average = (_find(trainer, kind) for kind in (AttackCallback, RobustValidation, AveragedWeights))
    warners = [_find(trainer, kind) for kind in (CollapseWarning, OverfittingWarning, NonFinite)]
    files = figures.training(folder, module.model, data, attack=robust.attack if robust else None, seed=int(cfg.seed))
    if isinstance(data.source, Pairs):
        files |= write_calibration(folder, module.model, data.source)
    return {
        **result_header(cfg, digest),
        "data": data_header(data),
        "model": {"parameters": cost.parameters, "flops": cost.flops, "size_bytes": cost.size_bytes},
        "threat": threat.describe(),
        "attack": attack.describe() if attack and module.objective.needs_attack else {},
        "validation_attack": robust.attack.describe() if robust else {},
        "weights": module.objective.describe(),
        "validation": validation,
        "checkpoint": {"path": str(best), "sha256": file_hash(best)},
        "teacher": dict(teacher) if teacher else None,
        "seconds": round(time_spent(trainer, started), 3),
        "averaged": average.summary() if average else None,
        "warnings": [message for warner in warners if warner for message in warner.messages],
        "files": files,
    }


def _shown(name: str, value: float) -> str:
    # divergences are in nats, everything else is a share
    return f"{name} {value:.3f}" if "kl_" in name else f"{name} {value:.1%}"


def score(result: Mapping[str, Any]) -> float | None:
    """A sweep maximises it: robust validation accuracy, clean where nothing was attacked, agreement without labels."""
    validation = result.get("validation", {})
    value = validation.get("robust_accuracy", validation.get("accuracy", validation.get("robust_agreement")))
    return None if value is None else float(value)
