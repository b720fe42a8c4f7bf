"""MNIST's own file format, gzip-compressed as it is handed out: unpacking it for torchvision."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from kdrobust.errors import DataError, RunFolderError
from kdrobust.tracking import write_bytes

#: The four files of MNIST and its likes, unpacked.
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# 60,000 images of 28 x 28 pixels are 45 MB
_MOST = 64 << 20


def unpack_idx(folder: Path, packed: Sequence[Path]) -> None:
    """Unpack what is missing in `folder` from the first folder that has it; each file appears whole or not at all.

    Files that no folder has are left missing.

    Args:
        folder: where torchvision looks for the unpacked files.
        packed: folders that may hold `<name>.gz`.

    Raises:
        DataError: a damaged `.gz`, or a folder that cannot be written.
    """
    for name in IDX_FILES:
        source = next((place / f"{name}.gz" for place in packed if (place / f"{name}.gz").is_file()), None)
        if (folder / name).is_file() or source is None:
            continue
        try:
            with gzip.open(source) as file:
                content = file.read(_MOST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{source}: damaged or truncated ({error}); get it anew") from None
        if len(content) > _MOST:
            raise DataError(
                f"{source}: unpacks to more than {_MOST >> 20} MB, which no file of these sets does; get it anew"
            )
        try:
            write_bytes(folder / name, content)
        except RunFolderError:
            raise DataError(f"{folder}: cannot be written; set data.root to a folder that can") from None
