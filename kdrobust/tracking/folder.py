"""A run's folder: who holds it, how far it got, and that nothing finished is overwritten."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdrobust.errors import RunFolderBusyError, RunFolderError
from kdrobust.tracking.atomic import remove_leftovers, write_json
from kdrobust.tracking.held import add_held, drop_held
from kdrobust.tracking.owner import is_gone, me
from kdrobust.tracking.ranks import rank_name

_log = logging.getLogger("kdrobust")
STATUS = "status.json"
LOCK = "run.lock"
#: How another rank waits for the first: how often it looks, when it says so, and when it gives up.
_LOOK_SECONDS, _ANNOUNCE_SECONDS, _IDLE_SECONDS = 0.2, 5.0, 120.0


def read_status(folder: Path) -> dict[str, Any]:
    """What a folder's `status.json` says; empty where there is none or it cannot be read."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def is_finished(folder: Path) -> bool:
    """Whether a run ended here with its result."""
    return read_status(folder).get("status") == "completed"


def _owner(path: Path) -> dict[str, Any]:
    """Whom a lock names; empty where it is damaged: its writer was killed at it."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return {**owner, "pid": int(owner["pid"]), "host": str(owner["host"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes that find the same stale lock must not both take it over."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # file systems without such locks are left to luck
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take_lock(folder: Path) -> None:
    path, mine = folder / LOCK, me()
    with _one_at_a_time(folder):
        if path.exists():
            owner = _owner(path)
            if not is_gone(owner) and owner != mine:
                raise RunFolderBusyError(
                    f"{folder}: process {owner['pid']} on {owner['host']} is working here; wait for it, choose another "
                    f"run.name, or delete {path} if that process is gone"
                )
        path.write_text(json.dumps(mine), encoding="utf-8")
    add_held(folder)


@contextmanager
def lock(folder: Path) -> Iterator[Path]:
    """Keep other processes out of a folder, whatever its status; the lock of a dead process is taken over.

    Raises:
        RunFolderBusyError: a living process is working there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _take_lock(folder)
    try:
        yield folder
    finally:
        _release(folder)


def _release(folder: Path) -> None:
    if drop_held(folder):
        (folder / LOCK).unlink(missing_ok=True)


@contextmanager
def hold(folder: Path, *, config_hash: str) -> Iterator[Path]:
    """Hold a run folder while a run works in it.

    Writes `status.json` (`running`, then `completed` or `failed` with the reason) and removes the lock at the end.

    Args:
        folder: the run's folder; made if absent.
        config_hash: an unfinished run found here must have the same one, then it is resumed.

    Raises:
        RunFolderError: the folder cannot be written, is held by a living process, holds a finished run, or an
            unfinished one of another configuration.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        _take_lock(folder)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror}); set run.root=FOLDER") from None
    try:
        # whoever held the folder until now may just have finished the run
        before = resumable(folder, config_hash)
        remove_leftovers(folder)
        yield from _held(folder, config_hash, before)
    finally:
        _release(folder)


def resumable(folder: Path, config_hash: str) -> dict[str, Any]:
    """The status of the unfinished run that a run of this configuration would go on with; empty where there is none.

    Raises:
        RunFolderError: the folder holds a finished run, or an unfinished one of another configuration.
    """
    before = read_status(folder)
    if before.get("status") == "completed":
        raise RunFolderError(f"{folder}: holds a finished run; choose another run.folder or run.name, or delete it")
    if before and before.get("config_hash") != config_hash:
        raise RunFolderError(
            f"{folder}: holds an unfinished run of another configuration; choose another run.folder, or delete it"
        )
    return before


def _held(folder: Path, config_hash: str, before: Mapping[str, Any]) -> Iterator[Path]:
    started = before.get("started") or _now()
    status = {"status": "running", "config_hash": config_hash, "started": started}
    try:
        write_json(folder / STATUS, status)
        yield folder
    except BaseException as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # on a full disk the error is to be told, not that its status cannot be written either
        with suppress(RunFolderError):
            write_json(folder / STATUS, {**status, "status": "failed", "ended": _now(), "error": reason})
        raise
    else:
        write_json(folder / STATUS, {**status, "status": "completed", "ended": _now()})


def mark_failed(folder: Path, reason: str) -> None:
    """Write down that a run failed, where its process is about to be ended and cannot do so itself any more."""
    status = read_status(folder)
    if status.get("status") == "running":
        with suppress(RunFolderError):
            write_json(folder / STATUS, {**status, "status": "failed", "ended": _now(), "error": reason})


def is_held(folder: Path) -> bool:
    """Whether a living process works in a folder."""
    return not is_gone(_owner(folder / LOCK))


def wait_for_first_rank(folder: Path, what: str) -> None:
    """Wait until rank 0 has finished the run of a folder, as any rank but the first does.

    Args:
        folder: the run's.
        what: what is done there, for the log.

    Raises:
        RunFolderError: that run has failed, or has not been at work for two minutes.
    """
    began = idle_since = time.monotonic()
    announced = False
    while not is_finished(folder):
        now = time.monotonic()
        if is_held(folder):
            idle_since = now
        elif read_status(folder).get("status") == "failed":
            raise RunFolderError(f"{folder}: rank 0 of this job has failed there: {read_status(folder).get('error')}")
        elif now - idle_since > _IDLE_SECONDS:
            raise RunFolderError(
                f"{folder}: rank 0 of this job has not worked there for {_IDLE_SECONDS:g} s ({what}); giving up"
            )
        if not announced and now - began > _ANNOUNCE_SECONDS:
            announced = True
            _log.info("rank %s waits for rank 0: %s in %s", rank_name(), what, folder)
        time.sleep(_LOOK_SECONDS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Check a stage's result against its schema and write `result.json`.

    Raises:
        RunFolderError: the result does not fit the schema (a mistake in this package), or cannot be written.
    """
    import jsonschema

    schema = json.loads((Path(__file__).parent / "schema" / "result.json").read_text(encoding="utf-8"))
    try:
        jsonschema.validate(result, schema)
    except jsonschema.ValidationError as error:
        raise RunFolderError(f"{folder}/result.json: {error.json_path}: {error.message}") from None
    write_json(folder / "result.json", result)
