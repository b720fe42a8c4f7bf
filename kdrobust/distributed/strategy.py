"""DDP whose every rank runs the job's own resolved config.

Lightning starts the other ranks from the parent's command line. Under a Hydra sweep that line describes the whole
sweep, so the ranks of one job end up with different configurations, and one model is trained with both. Here they are
started from the resolved config in the run folder instead.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from kdrobust.errors import KdrobustError

_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class _ConfigLauncher(_SubprocessScriptLauncher):
    """Starts rank r > 0 of this node with a given command."""

    rank_command: Sequence[str] = ()

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        self.procs = start_ranks(
            self.rank_command,
            world_size=self.num_processes * self.num_nodes,
            local_world_size=self.num_processes,
            address=self.cluster_environment.main_address,
            port=self.cluster_environment.main_port,
            node_rank=self.cluster_environment.node_rank(),
        )


class ConfigDDPStrategy(DDPStrategy):
    """DDP that starts its other ranks with `rank_command`, which the stage sets.

    Ranks that SLURM or torchrun made are left alone. Arguments are those of Lightning's `DDPStrategy`.
    """

    rank_command: Sequence[str] = ()

    def _configure_launcher(self) -> None:
        if self.cluster_environment is None or not self.rank_command:
            super()._configure_launcher()
            return
        self._launcher = _ConfigLauncher(self.cluster_environment, self.num_processes, self.num_nodes)
        self._launcher.rank_command = self.rank_command


def start_ranks(
    command: Sequence[str], *, world_size: int, local_world_size: int, address: str, port: int, node_rank: int = 0
) -> list[subprocess.Popen[bytes]]:
    """Start ranks 1 .. local_world_size - 1 of this node and make this process rank 0.

    Args:
        command: what every other rank runs.
        world_size: processes over all nodes.
        local_world_size: processes on this node.
        address: host of the first rank.
        port: a free port there.
        node_rank: which node this is.
    """
    here = {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "NODE_RANK": str(node_rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
    }
    os.environ.update(here)
    return [
        subprocess.Popen(list(command), env={**os.environ, "LOCAL_RANK": str(rank)})
        for rank in range(1, local_world_size)
    ]


def finish_ranks(processes: Sequence[subprocess.Popen[bytes]], *, failed: bool, timeout: float = 60.0) -> None:
    """End a job's process group so that the next job in this process can make its own.

    Args:
        processes: the ranks this process started; waited for, or ended at once if this rank failed.
        failed: whether this rank ended with an error.
        timeout: seconds a rank may take to end; a tenth of it where this one failed, for the others then wait for it.

    Raises:
        KdrobustError: another rank ended with an error, or did not end.
    """
    if not processes:
        return
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for name in _VARIABLES:
        os.environ.pop(name, None)
    codes = []
    for process in processes:
        if failed:
            process.terminate()
        try:
            codes.append(process.wait(timeout=timeout / 10 if failed else timeout))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(-9)
    if not failed and any(codes):
        raise KdrobustError(f"trainer: another rank of this job ended with exit codes {codes}; its error stands above")


class SameConfig(pl.Callback):
    """Refuses to train unless all ranks hold the same configuration.

    Args:
        config_hash: this rank's.
    """

    def __init__(self, config_hash: str) -> None:
        self.config_hash = config_hash

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare over all ranks."""
        if trainer.world_size == 1:
            return
        everyone: list[str] = [""] * trainer.world_size
        dist.all_gather_object(everyone, self.config_hash)
        if len(set(everyone)) > 1:
            raise KdrobustError("trainer: the ranks of this job hold different configurations; start them from one")
