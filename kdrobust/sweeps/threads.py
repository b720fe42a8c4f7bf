"""Threads of jobs that run side by side: processes × threads never exceed the cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def parallel_jobs(launcher: Any) -> int:
    """How many jobs of this machine a launcher's config runs at once; 1 where it does not say.

    Args:
        launcher: the node `hydra.launcher`.
    """
    cores = available_cores()
    if launcher is None:
        return 1
    if str(launcher.get("_target_")).endswith("submitit_launcher.LocalLauncher"):
        # it starts all at once
        return cores
    asked = launcher.get("n_jobs")
    if asked is None:
        return 1
    # joblib: -1 all cores, -2 all but one
    return max(1, cores + 1 + int(asked)) if int(asked) < 0 else max(1, int(asked))


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(*, processes: int, ranks: int = 1) -> int:
    """Threads of one rank: ⌊cores / (processes · ranks)⌋, at least 1.

    Args:
        processes: jobs at a time.
        ranks: processes a job.
    """
    return max(1, available_cores() // max(1, processes * ranks))


def _ranks(cfg: DictConfig) -> int:
    trainer: Mapping[str, Any] = cfg.get("trainer") or {}
    devices = trainer.get("devices", 1)
    return int(devices) if isinstance(trainer.get("strategy"), Mapping) and isinstance(devices, int) else 1


def pin_threads(cfg: DictConfig, *, processes: int) -> None:
    """Give a job that shares the machine its part of the cores, and the ranks it starts theirs.

    `threads=N` in the config stands: the stage sets it later.

    Args:
        cfg: the job's config.
        processes: jobs at a time.
    """
    if processes <= 1:
        return
    import torch

    threads = share(processes=processes, ranks=max(1, _ranks(cfg)))
    torch.set_num_threads(threads)
    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
