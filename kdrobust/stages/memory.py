"""Out of memory: one line with the batch size that would fit. Nothing is tried again: it would change the result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from omegaconf import DictConfig, OmegaConf

from kdrobust.errors import KdrobustError
from kdrobust.evaluation import power_of_two

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "bytes": 1}
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) (KiB|MiB|GiB|bytes)")
_WORKER = re.compile(r"DataLoader worker \(pid(\(s\))? [\d, ]+\) (is killed by signal|exited unexpectedly)")
#: Share of a device's memory that a suggestion fills; the rest is lost to fragments.
_FILLED = 0.9


class OutOfMemoryError(KdrobustError):
    """A batch that does not fit into the device's memory."""


class WorkerKilledError(KdrobustError):
    """A process that reads data has been killed, most often by the system as it ran out of memory."""


def fitting_batch(batch: int, needed: int | None, available: int | None) -> int:
    """The largest power of two that should fit where `batch` did not.

    Args:
        batch: samples that did not fit.
        needed: bytes they need, all told; None: unknown, then half the batch is named.
        available: bytes there are.

    Returns:
        At least 1, and less than `batch` unless that is 1. What does not grow with the batch (weights, optimiser) is
        counted as if it did, so the true limit lies at or above it.
    """
    share = _FILLED * available / needed if needed and available else 0.5
    return power_of_two(min(int(batch * share), batch - 1))


def _memory(error: BaseException) -> tuple[int | None, int | None]:
    """Bytes that were needed, and bytes that the device has; unknown on a CPU."""
    if not torch.cuda.is_available():
        return None, None
    found = _TRIED.search(str(error))
    tried = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    total = torch.cuda.mem_get_info()[1]
    return torch.cuda.max_memory_allocated() + tried, total


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@contextmanager
def told_memory(cfg: DictConfig) -> Iterator[None]:
    """Turn an allocation that failed, or a data worker that was killed, into its line.

    Args:
        cfg: the stage's, for the batch size that was used and the key that sets it.

    Raises:
        OutOfMemoryError: in place of torch's.
        WorkerKilledError: in place of torch's.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _WORKER.search(str(error)):
            workers = OmegaConf.select(cfg, "data.num_workers")
            raise WorkerKilledError(
                f"data.num_workers={workers}: a process that reads data was killed, most often as the machine ran out "
                "of memory; set fewer, and give the same command again: the run goes on where it was"
            ) from error
        if not _is_out_of_memory(error):
            raise
        keys = (
            ("evaluation.batch_size", "data.eval_batch_size")
            if cfg.get("stage") == "evaluate"
            else ("data.batch_size",)
        )
        key = next((key for key in keys if OmegaConf.select(cfg, key) is not None), keys[0])
        batch = int(OmegaConf.select(cfg, key) or 1)
        fits = fitting_batch(batch, *_memory(error))
        remedy = f"set {key}={fits}" if batch > 1 else "take a smaller model"
        raise OutOfMemoryError(
            f"{key}={batch}: out of memory; about {fits} would fit: {remedy} (nothing is tried again by itself, as "
            "another batch size gives another result)"
        ) from error
