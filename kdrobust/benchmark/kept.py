"""Teachers kept beside the records: students trained another day, or by somebody else, learn from the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kdrobust.benchmark.records import Record
from kdrobust.errors import DataError
from kdrobust.tracking import is_finished
from kdrobust.tracking.atomic import write_bytes

#: What of a finished training makes it one that others may use; the last file says that the rest is there.
FILES = ("config_resolved.yaml", "metrics.csv", "best.ckpt", "result.json", "status.json")
_STAGE = "teacher"


def kept_folder(results: Path, suite: str) -> Path:
    """Where a suite's teachers are kept, a folder each, named as its run."""
    return results / suite / "teachers"


def fetch(results: Path, suite: str, root: Path) -> list[str]:
    """Put the kept teachers where a suite's jobs look for them; those that are there already stay.

    Args:
        results: where records are kept.
        suite: its name.
        root: where its run folders are made.

    Returns:
        Names of the runs that were put there.

    Raises:
        DataError: a kept checkpoint is not the one its `result.json` speaks of.
        RunFolderError: the files cannot be written.
    """
    # a plan loads no torch
    from kdrobust.models import file_hash

    fetched = []
    for source in _finished(kept_folder(results, suite)):
        if is_finished(root / _STAGE / source.name):
            continue
        if file_hash(source / "best.ckpt") != _sha256(source):
            raise DataError(f"{source / 'best.ckpt'}: damaged; take it from version control, or delete its folder")
        _copy(source, root / _STAGE / source.name)
        fetched.append(source.name)
    return fetched


def keep(results: Path, suite: str, root: Path, records: Iterable[Record]) -> list[str]:
    """Keep the teachers that some records name.

    Args:
        results: where records are kept.
        suite: its name.
        root: where its run folders are made.
        records: their `teachers` say by SHA-256 which ones.

    Returns:
        Names of the runs that are newly kept.

    Raises:
        RunFolderError: the files cannot be written.
    """
    wanted = {teacher["sha256"] for record in records for teacher in record["teachers"].values()}
    kept = []
    for source in _finished(root / _STAGE):
        target = kept_folder(results, suite) / source.name
        if not is_finished(target) and _sha256(source) in wanted:
            _copy(source, target)
            kept.append(source.name)
    return kept


def kept_teachers(results: Path, suite: str) -> dict[str, str]:
    """The names of the runs that made a suite's kept teachers, by the SHA-256 of their checkpoints."""
    return {_sha256(source): source.name for source in _finished(kept_folder(results, suite))}


def _finished(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if is_finished(path)] if folder.is_dir() else []


def _sha256(run: Path) -> str:
    try:
        return str(json.loads((run / "result.json").read_text(encoding="utf-8"))["checkpoint"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _copy(source: Path, target: Path) -> None:
    for name in FILES:
        write_bytes(target / name, (source / name).read_bytes())
