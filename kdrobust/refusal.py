"""A refused run leaves nothing: the folder made for it goes again, unless something was computed in it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from kdrobust.errors import KdrobustError

#: What says that a run or a sweep was begun, and holds nothing that was computed.
BOOKKEEPING = frozenset(
    {
        ".hydra",
        "run.log",
        "status.json",
        "manifest.json",
        "config_resolved.yaml",
        "multirun.yaml",
        "sweep.json",
        "sweep.csv",
        "sweep_summary.csv",
        "sweep_importance.csv",
        "search.json",
        "study.db",
        "study.journal",
    }
)


@contextlib.contextmanager
def without_trace(folder: Path) -> Iterator[None]:
    """Take a folder away again when the work in it is refused by a `KdrobustError`.

    Only what was not there before is removed, and only where nothing but `BOOKKEEPING` lies in it: a run that has
    computed anything keeps its folder, with the reason in `status.json`.

    Args:
        folder: the run's or sweep's; it and its parents may not exist yet.
    """
    made = [place for place in (folder.absolute(), *folder.absolute().parents) if not place.exists()]
    try:
        yield
    except KdrobustError:
        if made and folder.is_dir() and all(path.name in BOOKKEEPING for path in folder.iterdir()):
            _close_logs(folder.absolute())
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made[1:]:
                with contextlib.suppress(OSError):
                    parent.rmdir()
        raise


def _close_logs(folder: Path) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)
            handler.close()
