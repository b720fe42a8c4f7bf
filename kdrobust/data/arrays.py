"""What a source hands over: training and test images with labels, in memory or on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@runtime_checkable
class FilePixels(Protocol):
    """Images that stay on disk until they are asked for; what the `workers` loader reads.

    Attributes:
        shape: (N, channels, height, width).
        dtype: of what `__getitem__` gives.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int: ...

    def __getitem__(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]: ...

    def digest(self) -> str:
        """Sha256 of the content, in hex."""
        ...


#: Images: [N, *shape], channels first; uint8 (0 .. 255) or floating (0 .. 1).
Pixels = npt.NDArray[Any] | FilePixels


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """A data set as its source gives it, not yet checked.

    Attributes:
        x_train: training images, [N, *shape], channels first; uint8 in 0 .. 255 or floating within the bounds.
        y_train: training labels, [N] integers in 0 .. K-1.
        x_test: test images.
        y_test: test labels.
        origin: the file, folder or package they come from, for error messages.
        class_names: one name a class; empty: named by number, and K is the highest training label plus one.
        bounds: (lo, hi), the range of valid values; other than [0, 1] for floating values only.
        sample_rate: values a second along the last axis, where these are recordings of sound.
        peak: largest absolute value that each recording was scaled to; None: as recorded, or no sound.
        validation: rows of `x_train` that the source itself sets aside for validation; empty: the data module draws
            a share.
    """

    x_train: Pixels
    y_train: npt.NDArray[Any]
    x_test: Pixels
    y_test: npt.NDArray[Any]
    origin: str
    class_names: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    sample_rate: int | None = None
    peak: float | None = None
    validation: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class Source(Protocol):
    """Where images come from: anything with this one method."""

    def load(self, root: Path) -> Arrays:
        """Read the data set.

        Args:
            root: folder that downloaded data sets are kept in.

        Raises:
            DataError: it is missing or cannot be read.
        """
        ...


def content_hash(values: Pixels) -> str:
    """Sha256 over type, shape and content, in hex."""
    if not isinstance(values, np.ndarray):
        return values.digest()
    state = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    # in pieces: a transposed view is not contiguous, and need not be copied as a whole
    for start in range(0, len(values), 4096):
        state.update(np.ascontiguousarray(values[start : start + 4096]).data)
    return state.hexdigest()
