"""The status files of a sweep: `sweep.json` for the whole, `jobs/N.json` for each job. No heavy import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

from kdrobust.config.annotations import fits
from kdrobust.tracking.atomic import write_json
from kdrobust.tracking.owner import is_gone

SWEEP, JOBS = "sweep.json", "jobs"
PENDING, RUNNING, COMPLETED, FAILED, CUT = "pending", "running", "completed", "failed", "cut"


_SWEEP_TYPES: dict[str, Any] = {
    "stage": str, "arguments": list[str], "flags": list[str], "directory": str, "jobs": int, "processes": int,
    "search": bool, "attempt": int, "status": str, "owner": dict[str, Any],
}  # fmt: skip


def now() -> str:
    """The time as status files have it: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(kw_only=True)
class Job:
    """One job of a sweep.

    Attributes:
        job: its number, the same in every attempt.
        status: pending, running, completed, failed, or cut (interrupted; a running job whose process is gone too).
        overrides: as Hydra gave them.
        config_hash: of what it runs; empty until it has started.
        folder: its run folder, relative to the sweep's where it lies in there.
        seed: of its config.
        value: what its stage returned.
        accuracy: clean accuracy in [0, 1], from its `result.json`.
        robust_accuracy: robust accuracy in [0, 1], from its `result.json`.
        error: last line of what it failed with.
        started: when it last started.
        ended: when it ended.
        seconds: how long its last start took.
        waited: seconds of those in which a teacher was trained, by this job or by another one that it waited for.
        starts: how often it was started and not found finished.
        attempt: the sweep's attempt of its last change.
        owner: the process that runs it, see `owner.me`.
    """

    job: int
    status: str = PENDING
    overrides: list[str] = field(default_factory=list)
    config_hash: str = ""
    folder: str = ""
    seed: int | None = None
    value: float | None = None
    accuracy: float | None = None
    robust_accuracy: float | None = None
    error: str | None = None
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    waited: float = 0.0
    starts: int = 0
    attempt: int = 0
    owner: dict[str, Any] | None = None

    @property
    def state(self) -> str:
        """The status, with a running job whose process is gone told as cut."""
        return CUT if self.status == RUNNING and is_gone(self.owner) else self.status


_JOB_TYPES = get_type_hints(Job)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; empty where there is none or it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def read_sweep(folder: Path) -> dict[str, Any]:
    """What `sweep.json` says; empty where there is none.

    Keys: stage, arguments, flags, directory (where it was typed), jobs (how many), processes, search, attempt, status,
    owner, started, ended. What is of another type is left out.
    """
    return {key: value for key, value in read_json(folder / SWEEP).items() if fits(value, _SWEEP_TYPES.get(key, Any))}


def write_sweep(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change keys of `sweep.json`; returns what it says then."""
    data = {**read_sweep(folder), **changes}
    write_json(folder / SWEEP, data)
    return data


def read_job(folder: Path, number: int) -> Job | None:
    """A job's record; None where there is none that can be read."""
    data = read_json(folder / JOBS / f"{number}.json")
    given = {key: value for key, value in data.items() if key in _JOB_TYPES}
    # the last attempt's file may be damaged, or written by somebody else
    if "job" not in given or not all(fits(value, _JOB_TYPES[key]) for key, value in given.items()):
        return None
    return Job(**given)


def write_job(folder: Path, job: Job) -> None:
    """Write a job's record in one step."""
    write_json(folder / JOBS / f"{job.job}.json", asdict(job))


def read_jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep by number; those of an earlier, longer grid in the same folder are left out."""
    total = read_sweep(folder).get("jobs")
    numbers = sorted(int(path.stem) for path in (folder / JOBS).glob("*.json") if path.stem.isdecimal())
    found = (read_job(folder, number) for number in numbers if total is None or number < total)
    return [job for job in found if job is not None]


def last_line(error: BaseException, *, plain: bool) -> str:
    """The last line of an error's text.

    Args:
        error: the error.
        plain: leave the type's name out, where the text was written to be read.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return text if plain and text else f"{type(error).__name__}: {text}".rstrip(": ")


def expect_jobs(folder: Path, overrides: Sequence[Sequence[str]], first: int, attempt: int) -> None:
    """Note that jobs will run: pending ones get a record, and the sweep its length.

    Args:
        folder: the sweep's.
        overrides: of each job.
        first: number of the first one.
        attempt: the sweep's.
    """
    for number, lines in enumerate(overrides, start=first):
        before = read_job(folder, number)
        if before is None or (before.overrides != list(lines) and before.state != RUNNING):
            starts = before.starts if before else 0
            write_job(folder, Job(job=number, overrides=list(lines), starts=starts, attempt=attempt))
    write_sweep(folder, jobs=first + len(overrides))
