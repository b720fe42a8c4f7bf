"""Rows about whole commands: start-up, a sweep against single runs, two processes against one."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

from timing import Absent, compared

_KDROBUST = [sys.executable, "-m", "kdrobust"]
_IMPORTS = "import torch, pytorch_lightning"


def _run(command: Sequence[str], folder: Path, *, codes: tuple[int, ...] = (0,)) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ended.returncode not in codes:
        raise Absent(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()[-200:]}")
    return ended.stdout


def _turns(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, Any]]:
    """As `timing.alternate` for runs in child processes: processor time is theirs; nothing is warmed up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            run()
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            times[name].append((wall, worked))
    return compared(times)


def startup(*, repeats: int) -> dict[str, dict[str, Any]]:
    """What answers without torch, and a training's way to its first step, against the bare imports."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        teacher = _teacher(folder)
        number = count()

        def step() -> None:
            # one step of one batch and its validation; a new folder each time
            words = ["distill", teacher, f"run.folder=runs/{next(number)}", "epochs=1", "attack.steps=1"]
            _run(
                [*_KDROBUST, *words, "data.limit_train=128", "data.batch_size=128", "data.limit_validation=20"], folder
            )

        runs: dict[str, Callable[[], object]] = {
            f"python -c '{_IMPORTS}'": lambda: _run([sys.executable, "-c", _IMPORTS], folder),
            "kdrobust --help": lambda: _run([*_KDROBUST, "--help"], folder),
            "kdrobust list": lambda: _run([*_KDROBUST, "list"], folder),
            "kdrobust distill, an unknown key": lambda: _run([*_KDROBUST, "distill", "epoch=3"], folder, codes=(2,)),
            "kdrobust distill, one step, all files written": step,
        }
        return _turns(runs, repeats)


def _teacher(folder: Path) -> str:
    words = ["teacher", "epochs=1", "attack.steps=1", "run.folder=teacher"]
    _run([*_KDROBUST, *words], folder)
    return f"teacher.checkpoint={folder / 'teacher' / 'best.ckpt'}"


def sweep(*, repeats: int) -> dict[str, dict[str, Any]]:
    """A grid of 12 students of one teacher: 12 commands, one process, and two one-thread processes."""
    grid = {"method.alpha": ("0.1", "0.5", "0.9"), "method.temperature": ("1", "4"), "seed": ("0", "1")}
    cells = [[f"{key}={value}" for key, value in zip(grid, cell, strict=True)] for cell in product(*grid.values())]
    axes = [f"{key}={','.join(values)}" for key, values in grid.items()]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        teacher = _teacher(folder)

        def afresh() -> None:
            for made in ("outputs", "multirun"):
                shutil.rmtree(folder / made, ignore_errors=True)

        def single() -> None:
            afresh()
            for cell in cells:
                _run([*_KDROBUST, "distill", "method=rslad", teacher, *cell], folder)

        def swept(*more: str) -> Callable[[], None]:
            def run() -> None:
                afresh()
                _run([*_KDROBUST, "distill", "-m", "method=rslad", teacher, *axes, *more], folder)

            return run

        runs: dict[str, Callable[[], object]] = {
            "12 commands, one after the other": single,
            "one sweep, one process": swept(),
            "one sweep, two processes": swept("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        }
        return _turns(runs, repeats)


def processes(*, repeats: int) -> dict[str, dict[str, Any]]:
    """Training on two cores: one process with two threads, two processes (gloo) with one each; equal global batches."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        number = count()
        words = ["teacher", "method=pgd_at", "model@teacher=wide_cnn", "data=digits", "epochs=60"]

        def train(*more: str) -> Callable[[], str]:
            return lambda: _run([*_KDROBUST, *words, *more, f"run.folder=runs/{next(number)}"], folder)

        runs: dict[str, Callable[[], object]] = {
            "one process, two threads": train("threads=2", "data.batch_size=128"),
            "two processes, one thread each": train("trainer=ddp_cpu", "threads=1", "data.batch_size=64"),
        }
        return _turns(runs, repeats)
