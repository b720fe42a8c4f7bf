"""Files that are either whole or not there: a killed run never leaves half a JSON behind."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdrobust.errors import RunFolderError
from kdrobust.tracking.held import require_held
from kdrobust.tracking.secrets import redact, redacted


def write_bytes(path: str | Path, data: bytes | memoryview, *, previous: Path | None = None) -> None:
    """Put `data` at `path` in one step; missing folders are made.

    The bytes go to a temporary file in the same folder, reach the disk (`fsync`), and take the place of `path` by
    `os.replace`, which is atomic on POSIX and on Windows. Readers see the old file or the new one, never a part.

    Args:
        path: where the file is to be.
        data: its content.
        previous: what the file that was at `path` is then called; None: it is gone.

    Raises:
        RunFolderError: the folder cannot be made or written, the disk is full, or the run folder it lies in, which this
            process holds, has been deleted.
    """
    path = Path(path)
    # the missing folder would be made again, without what the run has written there
    require_held(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files only the owner can read; results are ordinary files
        os.chmod(temporary, _mode(path))
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and start the same command again" if full else "set run.root=FOLDER"
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; for who holds the folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return 0o666 & ~_UMASK


def _read_umask() -> int:
    # there is no way to ask for it but to set it; done once at import, before threads are about
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _read_umask()


def write_text(path: str | Path, text: str) -> None:
    """Put `text` at `path` as UTF-8 in one step, without secrets, see `redact` and `write_bytes`."""
    # a file's name may hold bytes that are no UTF-8
    write_bytes(path, redact(text).encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, data: Any) -> None:
    """Put `data` at `path` as indented JSON in one step, see `write_bytes`.

    NaN and the infinities, which JSON does not know, become null: a run that took hours must not lose its result to
    one figure that could not be computed.

    Raises:
        TypeError: `data` holds something that is no JSON value.
    """
    write_text(path, json.dumps(redacted(_finite(data)), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data
