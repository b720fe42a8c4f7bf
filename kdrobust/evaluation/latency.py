"""How long a model takes to answer on this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdrobust.evaluation.predict import eval_mode
from kdrobust.spec import InputSpec

#: Fewer timed passes than this say little about quartiles.
PASSES = 30


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of a forward pass.

    Attributes:
        batch: samples a pass.
        median: seconds a pass.
        lower: first quartile, in seconds.
        upper: third quartile, in seconds.
        passes: how many were timed.
        threads: of torch, within an operation.
        device: where it ran.
        machine: processor or accelerator, and the number of processors.
    """

    batch: int
    median: float
    lower: float
    upper: float
    passes: int
    threads: int
    device: str
    machine: str

    @property
    def samples_per_second(self) -> float:
        """Throughput at the median."""
        return self.batch / self.median if self.median > 0 else float("inf")


def machine_name(device: torch.device | str = "cpu") -> str:
    """What computes: the accelerator's name, or the processor's and how many this process may use."""
    place = torch.device(device)
    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = _processor() or platform.processor() or platform.machine()
    return f"{name}, {usable} {'processor' if usable == 1 else 'processors'}"


def _processor(listing: str | Path = "/proc/cpuinfo") -> str:
    try:
        lines = Path(listing).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "")


def measure_latency(
    model: nn.Module,
    spec: InputSpec,
    *,
    batches: Sequence[int] = (1, 128),
    passes: int = PASSES,
    warmup: int = 3,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Latency, ...]:
    """Time forward passes in eval mode, without gradients, on inputs in the middle of their range.

    The median and quartiles are of single passes: what else runs on the machine shows in the upper quartile, and means
    would hide it. Passes of the batch sizes take turns, so that a slow moment hits all of them alike. Modes, threads
    and the model's device are put back.

    Args:
        model: takes [B, *spec.shape].
        spec: the data's shape.
        batches: samples a pass, each timed by itself.
        passes: timed passes a batch size.
        warmup: untimed passes before.
        threads: of torch while measuring; None: as many as it has.
        device: where to compute.
        clock: seconds from some origin.

    Raises:
        ValueError: no passes, or a batch or thread count below 1.
    """
    if passes < 1 or warmup < 0 or min(batches, default=1) < 1 or (threads is not None and threads < 1):
        raise ValueError("passes, batches and threads must be at least 1, warmup at least 0")
    home = next(model.parameters(), torch.zeros(0))
    before = torch.get_num_threads()
    seconds: dict[int, list[float]] = {batch: [] for batch in batches}
    try:
        torch.set_num_threads(threads or before)
        model.to(device)
        inputs = {
            batch: torch.full((batch, *spec.shape), spec.middle(), dtype=home.dtype, device=device) for batch in batches
        }
        with eval_mode(model), torch.inference_mode():
            for turn in range(warmup + passes):
                for batch in batches:
                    spent = _one_pass(model, inputs[batch], clock)
                    if turn >= warmup:
                        seconds[batch].append(spent)
    finally:
        torch.set_num_threads(before)
        model.to(home.device)
    found = []
    for batch, times in seconds.items():
        lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
        found.append(
            Latency(
                batch=batch,
                median=median,
                lower=lower,
                upper=upper,
                passes=passes,
                threads=threads or before,
                device=str(device),
                machine=machine_name(device),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class RealTime:
    """How much of a recording's own duration its recognition takes, one recording at a time on one core.

    Attributes:
        factor: median seconds of computing a second of sound; below 1 it keeps up with a speaker.
        lower: the same at the first quartile.
        upper: at the third quartile.
        seconds: duration of a recording.
        passes: how many were timed.
        machine: see `Latency`.
    """

    factor: float
    lower: float
    upper: float
    seconds: float
    passes: int
    machine: str


def real_time(
    model: nn.Module, spec: InputSpec, *, passes: int = PASSES, clock: Callable[[], float] = time.perf_counter
) -> RealTime:
    """Measure the real-time factor on one core; the front end is part of the model, and of the time.

    Args:
        model: takes [1, *spec.shape].
        spec: of sound.
        passes: timed passes.
        clock: seconds from some origin.

    Raises:
        ValueError: the data are no sound.
    """
    if spec.seconds is None:
        raise ValueError("a real-time factor needs sound: inputs with a sample rate")
    (found,) = measure_latency(model, spec, batches=(1,), passes=passes, threads=1, clock=clock)
    return RealTime(
        factor=found.median / spec.seconds,
        lower=found.lower / spec.seconds,
        upper=found.upper / spec.seconds,
        seconds=spec.seconds,
        passes=passes,
        machine=found.machine,
    )


def _one_pass(model: nn.Module, inputs: torch.Tensor, clock: Callable[[], float]) -> float:
    _wait(inputs.device)
    begun = clock()
    model(inputs)
    _wait(inputs.device)
    return clock() - begun


def _wait(device: torch.device) -> None:
    # an accelerator answers before it has finished
    if device.type == "cuda":
        torch.cuda.synchronize(device)
