"""Which process of a job this is, told before torch.distributed knows: by the variables of whatever started it."""

from __future__ import annotations

import os


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _is_slurm_task() -> bool:
    # an interactive shell of SLURM holds the variables too, and is one process whatever was allocated
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_PROCID" in os.environ and _number("SLURM_NTASKS") > 1 and not shell


def is_main_process() -> bool:
    """Whether this process writes files: rank 0 of a job over all nodes, or the only one.

    Ranks of ours have LOCAL_RANK and NODE_RANK, torchrun's have RANK, SLURM's tasks SLURM_PROCID.
    """
    if "LOCAL_RANK" not in os.environ and _is_slurm_task():
        return _number("SLURM_PROCID") == 0
    return all(_number(name) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def rank_name() -> str:
    """This process's rank as text, from the variables of whatever started it."""
    if "LOCAL_RANK" not in os.environ and _is_slurm_task():
        return os.environ["SLURM_PROCID"]
    return os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")


def made_by() -> str | None:
    """`torchrun` or `SLURM` where one of them has started the several processes of this job; else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ and _number("WORLD_SIZE") > 1:
        return "torchrun"
    return "SLURM" if "LOCAL_RANK" not in os.environ and _is_slurm_task() else None
