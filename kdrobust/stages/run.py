"""The one way in: a config is checked as it was typed, resolved once, written, and what was written is what runs.

A stage is a module of this package with
- `check(cfg, problems)`: refuses a config with anything wrong in it, composed or resolved; what it returns, its other
  functions get as `checked`;
- `derive(cfg, checked)`, optional: what follows from a composed config and could not be worked out from its resolved
  values, such as a teacher's own config; becomes the node `derived`;
- `require(cfg, checked)`, optional: refuses files that are missing or of another model, before anything is written;
- `run(cfg, folder, digest, checked)`: the work; returns what `result.json` holds, on the first process;
- `show(result, cfg)`, optional: prints a result;
- `score(result)`: the number that a sweep compares.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, open_dict

from kdrobust.config import (
    DERIVED,
    dead_keys,
    plain_problems,
    read_resolved,
    require_resolved,
    resolved,
    run_folder,
    trusting,
)
from kdrobust.config.check import check, summary
from kdrobust.config.resolved import FILE
from kdrobust.config.trust import require_consent
from kdrobust.errors import CheckpointError, KdrobustError, UsageError
from kdrobust.tracking import made_by

STAGES = ("teacher", "outputs", "distill", "evaluate", "export", "prune", "pipeline")
#: Stages whose every step begins from files that one process has written.
_ONE_PROCESS = ("outputs", "export", "prune", "pipeline")


def quiet() -> None:
    """Keep from the terminal what Lightning says of itself, and warnings about what we do on purpose."""
    import pytorch_lightning  # noqa: F401 - it sets its own level when imported

    # Lightning's advertisements and its notes on devices say nothing a run's own lines do not
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
    # our own sampler leaves out what was trained on
    warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch ended.*")
    # an epoch without a validation; a metric that is never measured is refused before training
    warnings.filterwarnings("ignore", message=".*could not find the monitored key in the returned metrics.*")
    # means over the processes already, see `EpochMeans`
    warnings.filterwarnings("ignore", message=r".*It is recommended to use `self\.log\('train/.*sync_dist=True.*")
    # the gradient of a 1 × 1 convolution has strides of its own, and is copied
    warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
    # a detector's classifier is frozen
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")


def stage_of(cfg: DictConfig) -> ModuleType:
    """The module of a config's stage, ready to be called.

    Raises:
        UsageError: no such stage.
    """
    stage = str(cfg.stage)
    if stage not in STAGES:
        raise UsageError(f"{stage}: no such stage; there are {', '.join(STAGES)}")
    quiet()
    return importlib.import_module(f"kdrobust.stages.{stage}")


def _checked(module: ModuleType, cfg: DictConfig, problems: list[str]) -> Any:
    """What a stage's `check` returns; where it stumbles over a value of a wrong type, the line about that value."""
    try:
        return module.check(cfg, problems)
    except KdrobustError:
        raise
    except Exception as error:
        found = check(cfg)
        if not found:
            raise
        raise UsageError(summary([*problems, *found])) from error


def resolve(composed: DictConfig, folder: Path | None = None) -> DictConfig:
    """The resolved form of a composed config, checked: the only form in which anything runs.

    Args:
        composed: of any stage, without Hydra's own node.
        folder: the run's; None: the one its hash names.

    Raises:
        UsageError: everything that is wrong with it, one line each.
    """
    require_consent(composed)
    module = stage_of(composed)
    with open_dict(composed):
        composed.run.folder = str(folder or run_folder(composed, reuse_finished=True))
    method = None if "method" not in composed else composed._get_node("method")
    unread = dead_keys(method, "method") if isinstance(method, DictConfig) and not method._is_missing() else []
    unread += plain_problems(composed)
    with trusting(composed.get("trusted_modules")):
        checked = _checked(module, composed, unread)
        derived = module.derive(composed, checked) if hasattr(module, "derive") else {}
    return resolved(composed, derived)


def run_config(cfg: DictConfig, *, asked: bool = False) -> dict[str, Any]:
    """Run a resolved config in its folder.

    Args:
        cfg: what `resolve` or `read_resolved` returned.
        asked: whether a command asks for this run, and is shown its result; otherwise another run needs it.

    Returns:
        What `result.json` holds; empty on every process but the first.

    Raises:
        UsageError: a config that cannot run, one line a problem.
        CheckpointError: a config that an earlier version wrote.
        KdrobustError: what the stage refuses.
    """
    require_resolved(cfg)
    require_consent(cfg)
    module = stage_of(cfg)
    if hasattr(module, "derive") and DERIVED not in cfg:
        raise CheckpointError(f"{cfg.run.folder}: {FILE} is of an earlier version; give the run's own command again")
    # a training of torchrun's ranks has its teacher's outputs stored by the first of them
    if asked and cfg.stage in _ONE_PROCESS and (starter := made_by()):
        raise UsageError(f"{cfg.stage}: one process runs it, and starts ranks where it trains; leave {starter} out")
    from kdrobust.stages.memory import told_memory
    from kdrobust.stages.setup import open_run

    folder = Path(str(cfg.run.folder))
    with trusting(cfg.get("trusted_modules")), told_memory(cfg):
        checked = _checked(module, cfg, [])
        if hasattr(module, "require"):
            module.require(cfg, checked)
        with open_run(cfg, folder) as digest:
            result: dict[str, Any] = module.run(cfg, folder, digest, checked) or {}
    if asked and result and hasattr(module, "show"):
        module.show(result, cfg)
    return result


def run_stage(composed: DictConfig, folder: Path, *, sweep: str | None = None) -> Any:
    """Resolve a composed config and run it; what the command line calls.

    Args:
        composed: of any stage.
        folder: the run's.
        sweep: the name of the sweep it is a job of.

    Returns:
        The stage's score; None where it has none, and on every process but the first.
    """
    if sweep is not None:
        with open_dict(composed):
            composed.run.sweep = sweep
    return score(run_config(resolve(composed, folder), asked=True), str(composed.stage))


def score(result: dict[str, Any], stage: str) -> float | None:
    """The number of a stage's result that a sweep compares; None where it has none."""
    value = importlib.import_module(f"kdrobust.stages.{stage}").score(result) if result else None
    return None if value is None else float(value)


def rank_command(folder: Path) -> list[str]:
    """The command that starts another rank of a running job, from the config in the job's folder."""
    return [sys.executable, "-m", "kdrobust.stages.rank", str(folder)]


def run_written(folder: Path) -> dict[str, Any]:
    """Run the config that a run folder holds: in another rank, or once more after a kill.

    Raises:
        CheckpointError: the folder holds no config that can be read.
    """
    return run_config(read_resolved(folder))
