"""Commands in processes of their own, to their end or to a signal."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What commands find in their environment: their own checkout, one thread, no account at Weights & Biases.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "COLUMNS": "120"}
_SECONDS = 600.0
_POLL = 0.005


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What came of a command.

    Attributes:
        arguments: what followed `kdrobust`.
        code: its exit code; None where it had to be killed for taking too long.
        seconds: how long it took.
        output: what it printed, both streams.
        signalled: whether it was sent the signal.
        left: whether a process that it had started outlived it.
    """

    arguments: list[str]
    code: int | None
    seconds: float
    output: str
    signalled: bool
    left: bool


def _work(folder: Path, log: Path, arguments: Sequence[str]) -> None:
    os.setsid()
    os.chdir(folder)
    # a fork server's child starts processes of its own by fork servers, too; a user's command does what the system does
    multiprocessing.set_start_method(None, force=True)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(stream, number)
    from kdrobust.cli import main

    sys.exit(main(list(arguments)))


class Forks:
    """Starts commands as forks of a process that has imported the packages and done nothing else: most of their time."""

    def __init__(self) -> None:
        os.environ.update(ENVIRONMENT)
        self.server = multiprocessing.get_context("forkserver")
        self.server.set_forkserver_preload(["kdrobust.launch", "kdrobust.stages.distill", "kdrobust.stages.evaluate"])

    def start(self, folder: Path, log: Path, arguments: Sequence[str]) -> tuple[int, Callable[[], int | None]]:
        """The process's id, and what tells its exit code once it has ended."""
        process: Any = self.server.Process(target=_work, args=(folder, log, list(arguments)))
        process.start()
        return int(process.pid), lambda: process.exitcode


class Interpreters:
    """Starts `python -m kdrobust`, a new interpreter a command."""

    def start(self, folder: Path, log: Path, arguments: Sequence[str]) -> tuple[int, Callable[[], int | None]]:
        """The process's id, and what tells its exit code once it has ended."""
        with open(log, "wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "kdrobust", *arguments],
                cwd=folder, env={**os.environ, **ENVIRONMENT}, stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip
        return process.pid, process.poll


def run(
    starter: Forks | Interpreters,
    folder: Path,
    arguments: Sequence[str],
    *,
    until: Callable[[], bool] | None = None,
    seconds: float = _SECONDS,
) -> Ended:
    """Run a command to its end.

    Args:
        starter: how it is started.
        folder: where it is typed.
        arguments: what follows `kdrobust`.
        until: where it is given, the process is sent SIGTERM once it holds.
        seconds: after so long it is killed.
    """
    log = folder / "command.log"
    began = time.monotonic()
    number, code = starter.start(folder, log, arguments)
    signalled, found = False, None
    while (found := code()) is None and time.monotonic() - began < seconds:
        if until is not None and not signalled and until():
            os.kill(number, signal.SIGTERM)
            signalled = True
        time.sleep(_POLL)
    took = time.monotonic() - began
    left = _outlived(number, 10.0 if found is not None else 0.0)
    if left:
        os.killpg(number, signal.SIGKILL)
    output = log.read_text(encoding="utf-8", errors="replace")
    return Ended(arguments=list(arguments), code=found, seconds=took, output=output, signalled=signalled, left=left)


def _outlived(group: int, seconds: float) -> bool:
    """Whether anything of a process group is there after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
