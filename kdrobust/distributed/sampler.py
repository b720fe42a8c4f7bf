"""Which samples make which batch on which process: shuffled and equal for training, exact for evaluation.

Both samplers yield whole batches as index tensors, for `DataLoader(dataset, sampler=..., batch_size=None)`: the data
set gathers a batch at once, and Lightning finds `set_epoch` on the loader's `sampler`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from kdrobust.randomness import generator


def position() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) where torch.distributed is not initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _place(rank: int | None, replicas: int | None) -> tuple[int, int]:
    here = position()
    rank = here[0] if rank is None else rank
    replicas = here[1] if replicas is None else replicas
    if not 0 <= rank < replicas:
        raise ValueError(f"rank: expected 0 .. {replicas - 1}, got {rank}")
    return rank, replicas


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


class ShuffledBatches(Sampler[Tensor]):
    """Training batches: one permutation an epoch, cut so that every process gets equally many equal batches.

    The permutation is a function of (seed, epoch) alone. Step s of an epoch takes its places s·W·B .. (s+1)·W·B - 1
    over all W processes together, so that W processes with batches of B see in each step what one process with batches
    of W·B sees. What does not fill a step is left out, other samples every epoch. Fewer samples than one step takes:
    one batch of ⌊size / W⌋ on every process.

    Args:
        size: number of samples N.
        batch_size: samples a batch and process, B ≥ 1.
        seed: the run's seed.
        rank: this process; None: ask torch.distributed.
        replicas: number of processes W; None: ask torch.distributed.

    Attributes:
        epoch: which permutation; set by `set_epoch`.
        trained: (epoch, number of batches) that an interrupted process has trained on already: they are left out.

    Raises:
        ValueError: a batch size below 1, fewer samples than processes, or a rank that does not exist.
    """

    def __init__(
        self, *, size: int, batch_size: int, seed: int, rank: int | None = None, replicas: int | None = None
    ) -> None:
        self.rank, self.replicas = _place(rank, replicas)
        _at_least_one("batch_size", batch_size)
        if size < self.replicas:
            raise ValueError(f"size: {size} samples cannot feed {self.replicas} processes")
        self.size = size
        self.batch_size = min(batch_size, size // self.replicas)
        self.seed = seed
        self.epoch = 0
        self.trained = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.replicas)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(self.size, generator=generator(self.seed, "shuffle", self.epoch))
        step = self.batch_size * self.replicas
        epoch, batches = self.trained
        for number in range(batches if epoch == self.epoch else 0, len(self)):
            start = number * step + self.rank * self.batch_size
            yield order[start : start + self.batch_size]


class UnpaddedDistributedSampler(Sampler[Tensor]):
    """Evaluation batches: every sample exactly once over all processes, in order, none repeated to fill up.

    Rank r of W takes the samples r, r + W, r + 2W ..., and every process cuts its own into *equally many* batches of
    sizes that differ by one at most: DistributedDataParallel broadcasts buffers at each forward pass, also in
    validation, and would wait for ever for a process that has a batch less.

    Args:
        size: number of samples N.
        batch_size: largest number of samples a batch and process, B ≥ 1. It is exceeded by one only where equal
            numbers of batches need it (B = 1 and N no multiple of W).
        rank: this process; None: ask torch.distributed.
        replicas: number of processes W; None: ask torch.distributed.

    Raises:
        ValueError: a batch size below 1, fewer samples than processes, or a rank that does not exist.
    """

    def __init__(self, *, size: int, batch_size: int, rank: int | None = None, replicas: int | None = None) -> None:
        self.rank, self.replicas = _place(rank, replicas)
        _at_least_one("batch_size", batch_size)
        if size < self.replicas:
            raise ValueError(f"size: {size} samples cannot feed {self.replicas} processes")
        self.size = size
        self.batch_size = batch_size

    def __len__(self) -> int:
        most = -(-self.size // self.replicas)
        return min(-(-most // self.batch_size), self.size // self.replicas)

    def __iter__(self) -> Iterator[Tensor]:
        yield from torch.arange(self.rank, self.size, self.replicas).tensor_split(len(self))
