"""Jobs run one after the other, here or in processes side by side; one that dies takes no other down."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from kdrobust.benchmark.plan import Job
from kdrobust.errors import KdrobustError, StoppedError

LOG = "benchmark.log"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        record: its record; None where it failed.
        error: why it failed.
        seconds: how long it took this time, waiting for teachers included.
    """

    job: Job
    record: dict[str, Any] | None = None
    error: str | None = None
    seconds: float


def run_jobs(jobs: Iterable[Job], *, root: Path, processes: int, until: float | None = None) -> Iterator[Outcome]:
    """Do jobs, yielding each as it ends.

    Args:
        jobs: in the order they are begun.
        root: where run folders are made.
        processes: how many at a time; 1: in this process.
        until: no job is begun after this reading of `time.monotonic`; those at work are finished.

    Raises:
        StoppedError: a signal; what was at work goes on where it stopped when it is done again.
    """
    root.mkdir(parents=True, exist_ok=True)
    todo = deque(jobs)

    def next_job() -> Job | None:
        return todo.popleft() if todo and (until is None or time.monotonic() < until) else None

    if processes > 1:
        yield from _side_by_side(next_job, root, min(processes, len(todo)))
        return
    with _logged(root):
        while (job := next_job()) is not None:
            yield _attempt(job, root)


def _attempt(job: Job, root: Path) -> Outcome:
    from kdrobust.benchmark.work import do

    began = time.monotonic()
    try:
        record = do(job, root)
    except KdrobustError as error:
        return Outcome(job=job, error=str(error), seconds=time.monotonic() - began)
    except Exception as error:
        logging.getLogger("kdrobust").exception("%s", job.label)
        told = f"{type(error).__name__}: {error}; see {root / LOG}"
        return Outcome(job=job, error=told, seconds=time.monotonic() - began)
    return Outcome(job=job, record=record, seconds=time.monotonic() - began)


class _logged:
    """What the stages say goes to a file: the terminal gets a line a job."""

    def __init__(self, root: Path) -> None:
        self._handler = logging.FileHandler(root / LOG, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(message)s"))

    def __enter__(self) -> None:
        logger = logging.getLogger("kdrobust")
        self._before = logger.level, logger.propagate
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("kdrobust")
        logger.removeHandler(self._handler)
        logger.level, logger.propagate = self._before
        self._handler.close()


@dataclass
class _Worker:
    process: Any
    line: Connection
    job: Job
    began: float


def _side_by_side(next_job: Any, root: Path, processes: int) -> Iterator[Outcome]:
    at_work: list[_Worker] = []
    try:
        while len(at_work) < processes and (job := next_job()) is not None:
            at_work.append(_start(job, root, processes))
        while at_work:
            ready = wait([worker.line for worker in at_work])
            for worker in [worker for worker in at_work if worker.line in ready]:
                outcome, alive = _hear(worker)
                job = next_job()
                if job is None or not alive:
                    at_work.remove(worker)
                    worker.line.close()
                    worker.process.join()
                    if job is not None:
                        at_work.append(_start(job, root, processes))
                else:
                    worker.job, worker.began = job, time.monotonic()
                    # one that has just died is heard of in the next round
                    with contextlib.suppress(OSError):
                        worker.line.send(job)
                yield outcome
    finally:
        for worker in at_work:
            # SIGTERM: a training finishes its step and writes its resume point
            worker.process.terminate()
        for worker in at_work:
            worker.process.join()


def _start(job: Job, root: Path, processes: int) -> _Worker:
    # spawned, not forked: torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, root, processes), daemon=True)
    process.start()
    there.close()
    here.send(job)
    return _Worker(process=process, line=here, job=job, began=time.monotonic())


def _hear(worker: _Worker) -> tuple[Outcome, bool]:
    """What a worker says of its job, and whether it lives."""
    try:
        outcome: Outcome | int = worker.line.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        told = f"its process ended with exit code {code}" + (", killed, perhaps for want of memory" * (code == -9))
        return Outcome(job=worker.job, error=told, seconds=time.monotonic() - worker.began), False
    if isinstance(outcome, int):
        raise StoppedError(outcome)
    return outcome, True


def serve(line: Connection, root: Path, processes: int) -> None:
    """A worker's life: jobs come along a line, outcomes go back; it ends when the line does.

    Args:
        line: to the process that hands out jobs.
        root: where run folders are made.
        processes: how many work side by side.
    """
    import torch

    from kdrobust.config import register
    from kdrobust.sweeps.threads import share

    torch.set_num_threads(share(processes=processes))
    register()
    with _logged(root):
        while True:
            try:
                job = line.recv()
            except EOFError:
                return
            try:
                line.send(_attempt(job, root))
            except StoppedError as stopped:
                line.send(int(stopped.number))
                return
