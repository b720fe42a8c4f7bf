"""The folders that this process holds, and whether they are still there: a run writes into no other in their place."""

from __future__ import annotations

from pathlib import Path

from kdrobust.errors import RunFolderError

#: Device and inode of each held folder: one that was deleted and made again is another.
_held: dict[Path, tuple[int, int]] = {}


class RunFolderDeletedError(RunFolderError):
    """A run folder that was deleted, moved or replaced while its run was under way."""


def add_held(folder: Path) -> None:
    """Note a folder that is held from now on."""
    _held[folder.absolute()] = _identity(folder) or (0, 0)


def drop_held(folder: Path) -> bool:
    """Note that a folder is held no more; whether it was still there."""
    return _held.pop(folder.absolute(), None) == _identity(folder)


def require_held(path: Path | None = None) -> None:
    """Refuse to go on where a held folder is there no more.

    Args:
        path: a file that is about to be written: only the folders it lies in count; None: all that are held.

    Raises:
        RunFolderDeletedError: the folder was deleted, moved or replaced.
    """
    for folder, identity in _held.items():
        if (path is None or path.absolute().is_relative_to(folder)) and _identity(folder) != identity:
            raise RunFolderDeletedError(
                f"{folder}: deleted, moved or replaced while the run worked in it, which stops here. Move it back and "
                "give the same command again to go on, or give the command again to start anew"
            )


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
