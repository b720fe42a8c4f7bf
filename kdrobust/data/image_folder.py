"""Folders of image files, one folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdrobust.data.arrays import Arrays
from kdrobust.errors import DataError
from kdrobust.media.images import SUFFIXES, read_bytes, read_header, read_image


@dataclass(kw_only=True)
class ImageFiles:
    """Images that are decoded when asked for; see `kdrobust.data.arrays.FilePixels`.

    Attributes:
        paths: one file a sample.
        shape: (N, C, H, W); C is 1 (grey) or 3 (RGB).
        content: sha256 over names and bytes of the files.
        dtype: uint8.
    """

    paths: Sequence[Path]
    shape: tuple[int, ...]
    content: str
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        images = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        for row, place in enumerate(places):
            images[row] = read_image(self.paths[int(place)], self.shape[1:], resize=True)
        return images

    def digest(self) -> str:
        """Sha256 over names and bytes of the files, and the size they are brought to."""
        return self.content


@dataclass(frozen=True, kw_only=True)
class _Header:
    path: Path
    label: int
    size: tuple[int, int]
    grey: bool


class ImageFolder:
    """`<path>/train/<class>/*.png` and `<path>/test/<class>/*.png`.

    Classes are the folders' names in alphabetical order. All images become grey (1 channel) if all are grey, and RGB
    otherwise; an alpha channel is dropped, and EXIF's orientation is heeded. With `data.loader=workers` they are
    decoded as batches need them.

    Args:
        path: the folder, relative to the working directory.
        size: side in pixels, or [height, width], to which all are resized (bilinear, antialiased). None: they must all
            have one size.

    Raises:
        ValueError: a size that is no size.
    """

    def __init__(self, *, path: str | Path, size: int | Sequence[int] | None = None) -> None:
        self.path = Path(path).expanduser()
        sides = (size, size) if isinstance(size, int) else None if size is None else tuple(size)
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise ValueError(f"size: expected pixels, or [height, width], got {size}")
        self.size: tuple[int, int] | None = sides

    def load(self, root: Path) -> Arrays:
        """List and hash the files; `root` is not looked at. Pixels are decoded later.

        Raises:
            DataError: a missing folder, no images, a file that is no image, or several sizes.
        """
        names = self._classes()
        digests = {}
        headers = {}
        for part in ("train", "test"):
            state = hashlib.sha256(f"{part}/{self.size}".encode())
            headers[part] = [
                self._header(path, label, state)
                for label, name in enumerate(names)
                for path in sorted((self.path / part / name).rglob("*"))
                if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            ]
            if not headers[part]:
                raise DataError(
                    f"{self.path / part}: no images in its class folders (looked for {', '.join(SUFFIXES)})"
                )
            digests[part] = state
        everything = [*headers["train"], *headers["test"]]
        channels = 1 if all(header.grey for header in everything) else 3
        height, width = self._size(everything)
        files = {
            part: ImageFiles(
                paths=[header.path for header in headers[part]],
                shape=(len(headers[part]), channels, height, width),
                content=digests[part].hexdigest() + f"/{channels}",
            )
            for part in headers
        }
        labels = {part: np.array([header.label for header in headers[part]], dtype=np.int64) for part in headers}
        return Arrays(
            x_train=files["train"],
            y_train=labels["train"],
            x_test=files["test"],
            y_test=labels["test"],
            origin=str(self.path),
            class_names=tuple(names),
        )

    def _classes(self) -> list[str]:
        names: dict[str, list[str]] = {}
        for part in ("train", "test"):
            folder = self.path / part
            if not folder.is_dir():
                raise DataError(
                    f"{folder}: no such folder; data.source.path names a folder that holds train/CLASS/*.png "
                    "and test/CLASS/*.png"
                )
            names[part] = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
        if not names["train"]:
            raise DataError(
                f"{self.path / 'train'}: no folders in it; put each class's images into a folder of its own"
            )
        strangers = sorted(set(names["test"]) - set(names["train"]))
        if strangers:
            raise DataError(
                f"{self.path / 'test'}: class {strangers[0]} is not in train/; add it there or remove it here"
            )
        return names["train"]

    def _header(self, path: Path, label: int, state: Any) -> _Header:
        content = read_bytes(path)
        header = read_header(path, content)
        name = path.relative_to(self.path).as_posix()
        state.update(os.fsencode(name) + f"\0{label}\0{len(content)}\0".encode())
        state.update(content)
        if header.orientation != 1:
            state.update(f"\0orientation {header.orientation}".encode())
        return _Header(path=path, label=label, size=header.size, grey=header.grey)

    def _size(self, headers: Sequence[_Header]) -> tuple[int, int]:
        if self.size is not None:
            return self.size
        first = headers[0]
        for header in headers:
            if header.size != first.size:
                raise DataError(
                    f"{header.path}: {header.size[0]}x{header.size[1]} pixels, but {first.path.name} has "
                    f"{first.size[0]}x{first.size[1]}; set data.source.size={min(first.size)} to resize all"
                )
        return first.size
