"""From a stage's name to its function, in this process or in another rank."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from kdrobust.errors import UsageError
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


def run_stage_in(stage: str, cfg: DictConfig, folder: Path) -> Any:
    """Run a stage in a given folder.

    Args:
        stage: one of `STAGES`.
        cfg: the composed config.
        folder: the run folder.

    Raises:
        UsageError: no such stage, or a config that cannot run.
    """
    if stage not in STAGES:
        raise UsageError(f"{stage}: no such stage; there are {', '.join(STAGES)}")
    starter = made_by()
    if starter and stage in _ONE_PROCESS:
        raise UsageError(f"{stage}: one process runs it, and starts ranks where it trains; leave {starter} out")
    quiet()
    if cfg.get("trusted_modules") and str(Path.cwd()) not in sys.path:
        # a user's own packages lie where the user works; last, so that they hide nothing
        sys.path.append(str(Path.cwd()))
    with open_dict(cfg):
        cfg.run.folder = str(folder)
    module = importlib.import_module(f"kdrobust.stages.{stage}")
    from kdrobust.stages.memory import told_memory

    with told_memory(cfg):
        return module.run(cfg, folder)


def run_stage(stage: str, cfg: DictConfig) -> Any:
    """Run a stage in the folder Hydra made for it; what the command line calls."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    node = HydraConfig.get()
    if node.mode == RunMode.MULTIRUN:
        with open_dict(cfg):
            cfg.run.sweep = True
    return run_stage_in(stage, cfg, Path(node.runtime.output_dir))


def rank_command(stage: str, folder: Path) -> list[str]:
    """The command that starts another rank of a running job from its resolved config."""
    return [sys.executable, "-m", "kdrobust.stages.rank", stage, str(folder)]


def load_resolved(folder: Path) -> DictConfig:
    """The resolved config a job wrote into its folder."""
    cfg = OmegaConf.load(folder / "config_resolved.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg
