"""Processes that share work without Lightning's trainer: who does what, and how they find each other."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kdrobust.distributed.strategy import start_ranks
from kdrobust.distributed.watch import watch
from kdrobust.errors import UsageError
from kdrobust.tracking import is_main_process, made_by


def world_size(trainer: Mapping[str, Any]) -> int:
    """How many processes on this node a trainer config asks for; 1 unless it distributes."""
    devices = trainer.get("devices", 1)
    if not isinstance(trainer.get("strategy"), Mapping):
        return 1
    if devices in (-1, "-1", "auto"):
        return max(1, torch.cuda.device_count())
    return len(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else int(devices)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join_ranks(
    trainer: Mapping[str, Any], command: Sequence[str], folder: Path | None = None
) -> tuple[int, int, list[subprocess.Popen[bytes]]]:
    """Make the process group a trainer config asks for.

    Args:
        trainer: the trainer config.
        command: what the other ranks run; they call this function too.
        folder: the job's run folder.

    Returns:
        This process's rank, the number of processes, and the processes started here.
    """
    world = world_size(trainer)
    if world == 1:
        return 0, 1, []
    processes: list[subprocess.Popen[bytes]] = []
    if made_by() == "SLURM":
        raise UsageError("trainer: an evaluation starts its own ranks; give it one SLURM task, or use torchrun")
    if "LOCAL_RANK" not in os.environ:
        processes = start_ranks(
            command, world_size=world, local_world_size=world, address="127.0.0.1", port=_free_port()
        )
        # a job that shares the machine with others has been given its part already
        torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // world)))
    watch(processes, folder if is_main_process() else None)
    # torchrun counts over all nodes
    rank, world = int(os.environ.get("RANK", os.environ["LOCAL_RANK"])), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if trainer.get("accelerator") in ("gpu", "cuda") else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world)
    return rank, world, processes


def evaluation_shard(rows: Tensor, rank: int, world: int) -> Tensor:
    """One process's share of the samples: every sample once over all processes, none repeated to even them out."""
    return rows[rank::world]
