"""Weights & Biases as a logger that never asks anything."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

_log = logging.getLogger(__name__)


class WandbRun(WandbLogger):
    """A run whose id follows from its folder, so that a resumed run goes on in the same one.

    Offline unless `WANDB_MODE` says otherwise: no account, no network, no prompt. The run is finished with the
    training, so that the next job of a sweep in this process begins its own.

    Args:
        project: W&B project.
        folder: the run's folder.
        name: shown name.
        job_type: the stage.
        group: groups runs, e.g. of a sweep.
    """

    def __init__(
        self, *, project: str, folder: str, name: str, job_type: str = "train", group: str | None = None
    ) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_SILENT", "true")
        self.mode = mode
        identity = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:12]
        super().__init__(
            project=project,
            save_dir=folder,
            name=name,
            id=identity,
            job_type=job_type,
            group=group,
            resume="allow" if mode == "online" else None,
            mode=mode,
        )

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run, and say how to look at it."""
        super().finalize(status)
        if self._experiment is None:
            return
        run: Any = self.experiment
        folder = Path(run.dir).parent
        run.finish(exit_code=0 if status == "success" else 1)
        self._experiment = None
        if self.mode == "offline":
            _log.info(
                "wandb (offline): look with `wandb leet %s`, send later with `wandb sync %s`", folder.parent, folder
            )
