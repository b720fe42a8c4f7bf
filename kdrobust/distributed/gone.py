"""A rank that is gone: how the others learn of it, and what it had ended with."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence

import torch.distributed as dist

_LOOK = 0.05


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error is that of a collective which another rank did not take part in."""
    # gloo's errors are plain ones that name its source files
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def rank_that_is_gone(processes: Sequence[subprocess.Popen[bytes]], *, patience: float) -> str | None:
    """What the first of a job's ranks to end with an error ended with, in one line; None where all of them live.

    Args:
        processes: the ranks 1, 2 ... of this node.
        patience: seconds to look; a process ends a moment after its connections.
    """
    deadline = time.monotonic() + patience
    while True:
        for rank, process in enumerate(processes, start=1):
            if code := process.poll():
                return f"trainer: rank {rank} of this job {_told(code)}; the same command again goes on with the run"
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOOK)


def _told(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}, its error stands above"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (the system does that where memory runs out)" if name == "SIGKILL" else "")
