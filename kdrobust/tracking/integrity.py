"""Whether a file of `torch.save` is still what was written: its records carry checksums that torch does not check."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path


def regular(path: str | Path) -> bool:
    """Whether reading a path comes to an end: it is a file, a folder or nothing, and no pipe or device."""
    place = Path(path)
    return place.is_file() or place.is_dir() or not place.exists()


def damage(path: str | Path) -> str | None:
    """What is wrong with a checkpoint file; None if every record has the checksum (CRC-32) it was written with.

    A file that was cut short, or in which a bit has flipped since, is found out; `torch.load` itself reads flipped
    weights without a word.

    Args:
        path: the file.
    """
    if not regular(path):
        return "a pipe or a device, no file"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except FileNotFoundError:
        return "missing"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return "damaged (cut short, or no checkpoint)"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if broken is None else "damaged (its content has another checksum than when it was written)"
