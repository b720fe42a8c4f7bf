"""DDP whose every rank runs the job's own resolved config.

Lightning starts the other ranks from the parent's command line. Under a Hydra sweep that line describes the whole
sweep, so the ranks of one job end up with different configurations, and one model is trained with both. Here they are
started from the resolved config in the run folder instead.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import nn

from kdrobust.distributed.gone import is_lost_connection, rank_that_is_gone
from kdrobust.distributed.watch import watch
from kdrobust.errors import KdrobustError
from kdrobust.tracking import is_main_process

_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
#: What ranks may differ by where a device's sums are not exact; on CPUs they are equal to the bit.
_SAME = 1e-5


class _ConfigLauncher(_SubprocessScriptLauncher):
    """Starts rank r > 0 of this node with a given command."""

    rank_command: Sequence[str] = ()
    run_folder: Path | None = None

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the ranks unless SLURM or torchrun has, and call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        # only the first rank writes the job's status
        watch(self.procs, self.run_folder if is_main_process() else None)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

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
    """DDP that starts its other ranks with `rank_command`, which the stage sets with the job's `run_folder`.

    Ranks that SLURM or torchrun made are left alone.

    Args:
        shard_teachers: each rank holds a share of a frozen teacher's weights, see `shard_frozen`. The student, which
            the attack needs as a whole, stays whole on every rank.
        options: those of Lightning's `DDPStrategy`.
    """

    rank_command: Sequence[str] = ()
    run_folder: Path | None = None

    def __init__(self, *, shard_teachers: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.shard_teachers = shard_teachers

    def _configure_launcher(self) -> None:
        if self.cluster_environment is None or not self.rank_command:
            super()._configure_launcher()
            return
        self._launcher = _ConfigLauncher(self.cluster_environment, self.num_processes, self.num_nodes)
        self._launcher.rank_command, self._launcher.run_folder = self.rank_command, self.run_folder


def _end_group() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


# a process that ends with a gloo group alive is aborted every few times: the group's threads outlive the interpreter
atexit.register(_end_group)


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


def finish_ranks(
    processes: list[subprocess.Popen[bytes]], *, error: BaseException | None, timeout: float = 60.0
) -> None:
    """End a job's process group so that the next job in this process can make its own.

    Args:
        processes: the ranks this process started; waited for, or ended at once if this rank failed. Emptied, which
            tells their observer that the job is over.
        error: what this rank ended with, if with an error.
        timeout: seconds a rank may take to end; a tenth of it where this one failed, for the others then wait for it.

    Raises:
        KdrobustError: another rank ended with an error, or did not end. So did this one, if it failed for no reason but
            that the other was gone.
    """
    if not processes:
        return
    ours = list(processes)
    processes.clear()
    gone = rank_that_is_gone(ours, patience=timeout / 10) if error is not None and is_lost_connection(error) else None
    _end_group()
    for name in _VARIABLES:
        os.environ.pop(name, None)
    codes = []
    for process in ours:
        if error is not None:
            process.terminate()
        try:
            codes.append(process.wait(timeout=timeout if error is None else timeout / 10))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(-9)
    if gone is not None:
        raise KdrobustError(gone) from error
    if error is None and any(codes):
        raise KdrobustError(f"trainer: another rank of this job ended with exit codes {codes}; its error stands above")


class SameConfig(pl.Callback):
    """Refuses to train unless all ranks hold the same configuration, and a result unless they hold the same weights.

    Args:
        config_hash: this rank's.
    """

    def __init__(self, config_hash: str) -> None:
        self.config_hash = config_hash

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the configurations of all ranks."""
        self._compare(trainer.world_size)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare configurations and trained parameters of all ranks; buffers are each rank's own between steps."""
        self._compare(trainer.world_size)
        # a strategy that shards has no whole parameters to compare
        if trainer.world_size > 1 and isinstance(trainer.strategy, DDPStrategy):
            _compare_weights(pl_module)

    def _compare(self, world_size: int) -> None:
        if world_size == 1:
            return
        everyone: list[str] = [""] * world_size
        dist.all_gather_object(everyone, self.config_hash)
        if len(set(everyone)) > 1:
            raise KdrobustError("trainer: the ranks of this job hold different configurations; start them from one")


def _compare_weights(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        low, high = parameter.detach().clone(), parameter.detach().clone()
        dist.all_reduce(low, op=dist.ReduceOp.MIN)
        dist.all_reduce(high, op=dist.ReduceOp.MAX)
        if not torch.allclose(low, high, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise KdrobustError(
                f"trainer: the ranks of this job trained different weights ({name}); they did not share every gradient"
            )
