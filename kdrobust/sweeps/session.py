"""The sweep as its own process sees it: folder, attempt, launches, end."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, open_dict, read_write

from kdrobust.config.hydra_node import task_overrides
from kdrobust.errors import RunFolderBusyError
from kdrobust.sweeps import record
from kdrobust.sweeps.progress import report
from kdrobust.sweeps.table import refresh
from kdrobust.sweeps.threads import available_cores, parallel_jobs
from kdrobust.tracking.owner import is_gone, me

log = logging.getLogger("kdrobust")
Launch = Callable[..., Sequence[JobReturn]]
_KILLED = "its process was killed; out of memory?"


class Session:
    """A sweep from its start to its end, in one process.

    Args:
        cfg: the sweep's own config, with Hydra's node; its folder is settled here, the same for every job.
        stage: the primary config's name.
        flags: of the command line, to be given again (`--config-dir=...`).

    Raises:
        RunFolderBusyError: a living process runs this sweep.
    """

    def __init__(self, cfg: DictConfig, stage: str, flags: Sequence[str] = ()) -> None:
        given = Path(str(cfg.hydra.sweep.dir)).expanduser()
        given.mkdir(parents=True, exist_ok=True)
        self.folder = given.absolute()
        self.is_search = cfg.get("search") is not None
        before = record.read_sweep(self.folder)
        owner = before.get("owner") or {}
        if before.get("status") == record.RUNNING and owner != me() and not is_gone(owner):
            raise RunFolderBusyError(
                f"{self.folder}: process {owner['pid']} on {owner['host']} runs this sweep; wait for it, choose "
                f"another hydra.sweep.dir, or delete {self.folder / record.SWEEP} if that process is gone"
            )
        _settle_folder(cfg, self.folder)
        processes = parallel_jobs(cfg.hydra.launcher)
        _warn_of_threads(cfg, processes)
        self.attempt = int(before.get("attempt", 0)) + 1
        record.write_sweep(
            self.folder,
            stage=stage,
            arguments=[*task_overrides(cfg.hydra), *_hydra_overrides(cfg)],
            flags=list(flags),
            directory=str(Path.cwd()),
            processes=processes,
            search=self.is_search,
            attempt=self.attempt,
            status=record.RUNNING,
            owner=me(),
            started=record.now(),
            ended=None,
        )

    def launch(self, launch: Launch, overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Launch jobs; one whose process is killed does not take the others down.

        A pool of processes breaks when one of them is killed, and ends the jobs of all. Those that were running then
        are run again one by one, which shows whose fault it was, and the others after them.

        Args:
            launch: the launcher's own.
            overrides: of each job.
            first: number of the first one.
        """
        if self.is_search:
            return launch(overrides, initial_job_idx=first)
        record.expect_jobs(self.folder, overrides, first, self.attempt)
        while True:
            try:
                return launch(overrides, initial_job_idx=first)
            except BrokenProcessPool:
                suspects = [job for job in self._cut() if first <= job.job < first + len(overrides)]
                if not suspects:
                    raise
            for job in suspects:
                self._alone(launch, overrides[job.job - first], job.job)

    def _cut(self) -> list[record.Job]:
        return [job for job in record.read_jobs(self.folder) if job.state == record.CUT]

    def _alone(self, launch: Launch, overrides: Sequence[str], number: int) -> None:
        log.info("job %d: its process ended early; it goes on by itself", number)
        try:
            launch([overrides], initial_job_idx=number)
        except BrokenProcessPool:
            job = record.read_job(self.folder, number)
            assert job is not None
            job.status, job.error, job.ended = record.FAILED, _KILLED, record.now()
            record.write_job(self.folder, job)

    def finish(self, *, complete: bool) -> None:
        """Write the end down and print the summary.

        Args:
            complete: whether the sweeper came to its end.
        """
        record.write_sweep(self.folder, status=record.COMPLETED if complete else record.CUT, ended=record.now())
        if not self.is_search:
            jobs = refresh(self.folder)
            if jobs:
                print(report(self.folder, jobs))


def quoted(text: str) -> str:
    """A text as a value of Hydra's grammar, whatever stands in it."""
    # backslashes count double only before a quote
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def _settle_folder(cfg: DictConfig, folder: Path) -> None:
    # jobs are composed anew from the overrides: a worker would read the clock again, or start from another directory
    kept = [str(line) for line in cfg.hydra.overrides.hydra if not str(line).startswith("hydra.sweep.dir=")]
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.overrides.hydra = [*kept, f"hydra.sweep.dir={quoted(str(folder))}"]
        cfg.hydra.sweep.dir = str(folder)


def _hydra_overrides(cfg: DictConfig) -> list[str]:
    lines = [str(line) for line in cfg.hydra.overrides.hydra]
    return [line for line in lines if line.partition("=")[0] not in ("hydra.mode", "hydra.sweep.dir")]


def _warn_of_threads(cfg: DictConfig, processes: int) -> None:
    threads: Any = cfg.get("threads")
    if processes > 1 and isinstance(threads, int) and threads * processes > available_cores():
        log.warning(
            "threads=%d: %d jobs at a time then want more than the %d cores; leave it auto",
            threads,
            processes,
            available_cores(),
        )
