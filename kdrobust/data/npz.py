"""Any arrays, from one NumPy archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdrobust.data.arrays import Arrays
from kdrobust.errors import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError, MemoryError
)  # fmt: skip
_CHANNELS = (1, 3)


class Npz:
    """Images and labels in an `.npz`.

    Keys: `x_train`, `x_test` (uint8 in 0..255 or floating point in [0, 1]; shape (N, H, W), (N, C, H, W) or
    (N, H, W, C)), `y_train`, `y_test` (integers 0 .. K-1, shape (N,)), and optionally `class_names` (K texts).
    Pickled objects are refused: reading them would run their code.

    Args:
        path: the file, relative to the working directory.
        channels_last: whether 4-d arrays are (N, H, W, C). None: told from which axis has 1 or 3 entries, refused
            where both or neither have.
    """

    def __init__(self, *, path: str | Path, channels_last: bool | None = None) -> None:
        self.path = Path(path).expanduser()
        self.channels_last = channels_last

    def load(self, root: Path) -> Arrays:
        """Read the file; `root` is not looked at.

        Raises:
            DataError: no such file, a damaged one, a missing key, pickled objects, or a shape that is not images.
        """
        found = self._read()
        images = {key: self._channels_first(found[key], key) for key in ("x_train", "x_test")}
        names = found.get("class_names")
        return Arrays(
            x_train=images["x_train"],
            y_train=found["y_train"],
            x_test=images["x_test"],
            y_test=found["y_test"],
            origin=str(self.path),
            class_names=() if names is None else tuple(str(name) for name in names),
        )

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        wanted = ", ".join(KEYS)
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; data.source.path names an .npz with {wanted}")
        if not zipfile.is_zipfile(self.path):
            raise DataError(f"{self.path}: truncated, or no .npz; write it with numpy.savez(path, x_train=..., ...)")
        key = ""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                missing = [key for key in KEYS if key not in archive]
                if missing:
                    present = ", ".join(archive.files) or "nothing"
                    raise DataError(f"{self.path}: no {', '.join(missing)} in it (it has {present}); store {wanted}")
                found = {}
                for key in (*KEYS, "class_names"):
                    if key in archive:
                        found[key] = archive[key]
        except _DAMAGED as error:
            if "allow_pickle" in str(error):
                raise DataError(
                    f"{self.path}: {key} holds pickled Python objects, which are not read as they can run code; "
                    "store plain numbers"
                ) from None
            raise DataError(f"{self.path}: {key or 'the archive'} cannot be read, truncated? Write it again") from None
        return found

    def _channels_first(self, images: npt.NDArray[Any], key: str) -> npt.NDArray[Any]:
        where = f"{self.path}: {key}"
        if images.ndim == 3:
            return images[:, np.newaxis]
        if images.ndim != 4:
            raise DataError(f"{where} has shape {images.shape}; expected (N, H, W), (N, C, H, W) or (N, H, W, C)")
        last = self.channels_last
        if last is None:
            first_fits, last_fits = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
            if first_fits == last_fits:
                raise DataError(
                    f"{where} has shape {images.shape}: which axis holds the channels? "
                    "Set data.source.channels_last=true or false"
                )
            last = last_fits
        return images.transpose(0, 3, 1, 2) if last else images
