"""One job of a sweep: skipped where its run is finished and unchanged, else run, with its status written down.

This runs in whatever process the launcher chose, so every launcher resumes and reports alike.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config import config_hash
from kdrobust.config.hydra_node import task_overrides
from kdrobust.errors import KdrobustError
from kdrobust.sweeps import record
from kdrobust.sweeps.figures import read_accuracies, teacher_seconds
from kdrobust.sweeps.progress import told
from kdrobust.sweeps.table import refresh
from kdrobust.sweeps.threads import pin_threads
from kdrobust.tracking import is_finished, is_main_process, read_status
from kdrobust.tracking.owner import me

log = logging.getLogger("kdrobust")
SUPERSEDED = "superseded"
_HYDRA_S_OWN = (".hydra", "run.log")
_POLL_SECONDS = 1.0


class JobFailedError(KdrobustError):
    """A job that failed earlier in the same attempt and is not tried again."""


def run_recorded(cfg: DictConfig, run: Callable[[], Any]) -> Any:
    """Run a job, and keep its record in the sweep's folder.

    Outside a sweep nothing but `run` happens; a search keeps its own books, and only gets its share of the cores.

    Args:
        cfg: the job's config.
        run: does the work; its number, if it returns one, is the job's value.

    Returns:
        What `run` returned, now or when the job was completed.

    Raises:
        JobFailedError: it failed in this attempt already.
    """
    node = HydraConfig.get()
    if node.mode != RunMode.MULTIRUN:
        return run()
    sweep, folder = Path(str(node.sweep.dir)).absolute(), Path(str(node.runtime.output_dir))
    number = int(node.job.num)
    told_by = record.read_sweep(sweep)
    attempt = int(told_by.get("attempt", 0))
    if told_by and Path(told_by["directory"]).is_dir():
        # a pool's worker may be left from a sweep that was started elsewhere
        os.chdir(told_by["directory"])
    processes = int(told_by.get("processes", 1))
    if told_by.get("search"):
        pin_threads(cfg, processes=processes)
        return run()
    digest = _hash(cfg)
    if not is_main_process():
        # a task of the launcher's: rank 0 keeps the job's record, and decides by the same files
        done = is_finished(folder) and read_status(folder).get("config_hash") == digest
        return None if done else run()
    before = _settled(sweep, number)
    same = before is not None and before.config_hash == digest
    if before is not None and same and before.status == record.FAILED and before.attempt == attempt:
        raise JobFailedError(before.error or "failed")
    job = record.Job(
        job=number,
        overrides=task_overrides(node),
        config_hash=digest,
        folder=_relative(folder, sweep),
        seed=_seed(cfg),
        starts=before.starts if before else 0,
        attempt=attempt,
        owner=me(),
    )
    if is_finished(folder) and read_status(folder).get("config_hash") == digest:
        return _skip(sweep, folder, job, before if same else None)
    _set_aside(sweep, folder, digest)
    pin_threads(cfg, processes=processes)
    return _run(sweep, folder, job, run)


def _hash(cfg: DictConfig) -> str:
    try:
        return config_hash(cfg)
    except (OmegaConfBaseException, ValueError):
        # the stage says what is wrong with it
        return ""


def _seed(cfg: DictConfig) -> int | None:
    seed = cfg.get("seed")
    return seed if isinstance(seed, int) else None


def _relative(folder: Path, sweep: Path) -> str:
    return folder.relative_to(sweep).as_posix() if folder.is_relative_to(sweep) else str(folder)


def _settled(sweep: Path, number: int) -> record.Job | None:
    """The job's record, once no other process is at it: a worker can outlive the sweep that started it."""
    while True:
        before = record.read_job(sweep, number)
        if before is None or before.state != record.RUNNING or (before.owner or {}).get("pid") == os.getpid():
            return before
        time.sleep(_POLL_SECONDS)


def _skip(sweep: Path, folder: Path, job: record.Job, before: record.Job | None) -> float | None:
    if before is not None and before.status == record.COMPLETED:
        log.info("job %d: completed before, skipped", job.job)
        return before.value
    # the process ended between the run's last file and its record
    job.accuracy, job.robust_accuracy = read_accuracies(folder)
    job.value = job.accuracy if job.robust_accuracy is None else job.robust_accuracy
    status = read_status(folder)
    job.status, job.started, job.ended = record.COMPLETED, status.get("started"), status.get("ended")
    _close(sweep, job)
    return job.value


def _set_aside(sweep: Path, folder: Path, digest: str) -> None:
    """Move a run of another configuration out of the job's folder: nothing that was computed is lost."""
    status = read_status(folder)
    if not status or not digest or status.get("config_hash") == digest:
        return
    base = sweep / SUPERSEDED / f"{folder.name}-{str(status.get('config_hash'))[:8]}"
    place, count = base, 1
    while place.exists():
        count += 1
        place = base.with_name(f"{base.name}-{count}")
    place.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.name not in _HYDRA_S_OWN:
            shutil.move(path, place / path.name)
    log.info("%s: held a run of another configuration, now in %s", folder, place)


def _run(sweep: Path, folder: Path, job: record.Job, run: Callable[[], Any]) -> Any:
    job.status, job.started, job.starts = record.RUNNING, record.now(), job.starts + 1
    record.write_job(sweep, job)
    began = time.monotonic()
    try:
        value = run()
    except Exception as error:
        job.status, job.error = record.FAILED, record.last_line(error, plain=isinstance(error, KdrobustError))
        raise
    except BaseException:
        job.status = record.CUT
        raise
    else:
        job.status = record.COMPLETED
        job.value = float(value) if isinstance(value, int | float) else None
        job.accuracy, job.robust_accuracy = read_accuracies(folder)
        return value
    finally:
        job.ended, job.seconds = record.now(), round(time.monotonic() - began, 3)
        job.waited = min(job.seconds, teacher_seconds(folder, job.started, job.ended))
        _close(sweep, job)


def _close(sweep: Path, job: record.Job) -> None:
    record.write_job(sweep, job)
    jobs = refresh(sweep)
    log.info(told(sweep, job, jobs))
