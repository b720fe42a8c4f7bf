"""Images and recordings to be classified, from a file, a folder or an array on disk, a batch at a time."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from kdrobust.errors import DataError
from kdrobust.media.images import SUFFIXES, read_image
from kdrobust.media.wav import Format, read_wav
from kdrobust.serving.student import is_single

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError)
Batch = tuple[list[str], npt.NDArray[Any]]


class Images(Protocol):
    """Images in their order.

    Attributes:
        origin: where they are, for messages.
    """

    origin: str

    def __len__(self) -> int: ...

    def batches(self, size: int, start: int = 0) -> Iterator[Batch]:
        """(names, [B, ...] images) of so many at a time, from a place on; only these are in memory."""
        ...

    def names(self, start: int, stop: int) -> list[str]:
        """What `batches` calls some of them; nothing is decoded."""
        ...

    def version(self, start: int, stop: int) -> str:
        """A hash of the names, sizes and times of the files that hold some of them: another one where any changed."""
        ...


def open_images(
    path: str | Path,
    shape: tuple[int, ...],
    *,
    array: str | None = None,
    resize: bool = False,
    recordings: Format | None = None,
) -> Images:
    """Find inputs; pixels are read later.

    Args:
        path: an image file, a folder (searched with all below it, in the order of names), or an `.npz` or `.npy`.
        shape: what the model takes: (1 or 3, height, width) for image files.
        array: the name of the array in an `.npz`; None: the only one, or `x_test`, `x` or `images`.
        resize: bring image files of another size to the model's (bilinear, antialiased) instead of refusing them.
        recordings: for a model of sound: what wav files, which are looked for instead of images, are brought to.

    Raises:
        DataError: nothing there, nothing in it, or a kind of file that holds no such inputs.
    """
    kind, suffixes = ("images", SUFFIXES) if recordings is None else ("recordings", (".wav",))
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(f"input={path}: no such file or folder")
    if place.suffix.lower() in (".npz", ".npy") and place.is_file():
        return ArrayImages(place, array, shape=shape)
    if array is not None:
        raise DataError(f"array={array}: only an .npz holds arrays, and input={path} is none")
    if place.is_dir():
        root = place
        files = sorted(
            child
            for child in place.rglob("*")
            if child.suffix.lower() in suffixes and not child.name.startswith(".") and child.is_file()
        )
        if not files:
            raise DataError(f"input={path}: no {kind} in this folder (looked for {', '.join(suffixes)})")
    elif place.suffix.lower() in suffixes:
        root, files = place.parent, [place]
    else:
        ending = f"{kind} end in {', '.join(suffixes)}"
        raise DataError(f"input={path}: no {kind.removesuffix('s')}, .npz or .npy by its name ({ending})")
    if recordings is not None:
        return FileRecordings(files, root=root, format=recordings)
    return FileImages(files, root=root, shape=shape, resize=resize)


def _version(paths: Sequence[Path], names: Sequence[str]) -> str:
    state = hashlib.sha256("\n".join(names).encode())
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        state.update(f"\n{found.st_size} {found.st_mtime_ns}".encode())
    return state.hexdigest()


def _escaped(name: str) -> str:
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode() for each in name
    )


class _Files:
    """Files that are read when their turn comes.

    Args:
        paths: in order.
        root: what their names are relative to.
    """

    def __init__(self, paths: list[Path], *, root: Path) -> None:
        self.paths = paths
        self.root = root
        self.origin = str(root if len(paths) > 1 else paths[0])

    def __len__(self) -> int:
        return len(self.paths)

    def names(self, start: int, stop: int) -> list[str]:
        """Relative to the root."""
        names = (path.relative_to(self.root).as_posix() for path in self.paths[start:stop])
        # bytes that are no UTF-8 as \udcNN, a line's end as \n: a table is UTF-8, and has a line a file
        return [name if name.isprintable() else _escaped(name) for name in names]

    def version(self, start: int, stop: int) -> str:
        """See `Images`."""
        return _version(self.paths[start:stop], self.names(start, stop))


class FileImages(_Files):
    """Image files, decoded when their turn comes; grey for a model of one channel, RGB for one of three.

    Args:
        paths: in order.
        root: what their names are relative to.
        shape: (channels, height, width).
        resize: whether other sizes are brought to the model's.

    Raises:
        DataError: the model does not take images of one or three channels.
    """

    def __init__(self, paths: list[Path], *, root: Path, shape: tuple[int, ...], resize: bool) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise DataError(f"the model takes inputs {shape}, which image files do not hold; give an .npz or .npy")
        super().__init__(paths, root=root)
        self.shape = shape
        self.resize = resize

    def batches(self, size: int, start: int = 0) -> Iterator[Batch]:
        """(names, [B, C, H, W] uint8) of so many at a time, from a place on.

        Raises:
            DataError: a file that is no image, holds more than 8 bits a channel, or has another size.
        """
        for begin in range(start, len(self.paths), size):
            chosen = self.paths[begin : begin + size]
            pixels = np.stack([read_image(path, self.shape, resize=self.resize) for path in chosen])
            yield self.names(begin, begin + size), pixels


class FileRecordings(_Files):
    """Wav files, brought to one rate, length and loudness when their turn comes, as in training.

    Args:
        paths: in order.
        root: what their names are relative to.
        format: what they are brought to.

    Attributes:
        adapted: how many of those read so far have another rate or length than the model takes.
    """

    def __init__(self, paths: list[Path], *, root: Path, format: Format) -> None:
        super().__init__(paths, root=root)
        self.format = format
        self.adapted = 0

    def batches(self, size: int, start: int = 0) -> Iterator[Batch]:
        """(names, [B, 1, T] float32) of so many at a time, from a place on.

        Raises:
            DataError: a file that is no wav file, or silent.
        """
        for begin in range(start, len(self.paths), size):
            signals = np.stack([self._read(path) for path in self.paths[begin : begin + size]])
            yield self.names(begin, begin + size), signals[:, np.newaxis]

    def adaptation(self) -> str:
        """What was done to recordings of another rate or length, in a line."""
        form = self.format
        return (
            f"{self.adapted} of {len(self)} recordings have another rate or length than the model's "
            f"({form.sample_rate} samples a second, {form.samples / form.sample_rate:g} s): resampled, cut to their "
            "middle or padded with zeros, as in training"
        )

    def _read(self, path: Path) -> npt.NDArray[np.float32]:
        signal, rate = read_wav(path)
        self.adapted += rate != self.format.sample_rate or len(signal) != self.format.samples
        try:
            return self.format.apply(signal, rate)
        except ValueError as error:
            raise DataError(f"{path}: {error}; replace or remove it") from None


class ArrayImages:
    """An array in an `.npz` or `.npy`, read a batch at a time, also where it is compressed.

    Args:
        path: the file.
        name: of the array in an `.npz`; None: the only one, or `x_test`, `x` or `images`.
        shape: what the model takes; an array of this shape is one input.

    Raises:
        DataError: a damaged file, no such array, pickled objects, or Fortran order.
    """

    def __init__(self, path: Path, name: str | None = None, *, shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.name = self._find(name) if path.suffix.lower() == ".npz" else ""
        self.origin = f"{path}: {self.name}" if self.name else str(path)
        try:
            with self._open() as file:
                self.shape, self.dtype = self._header(file)
        except _DAMAGED:
            raise DataError(f"{self.origin} cannot be read, truncated? Write it again with numpy") from None
        if shape and is_single(self.shape, shape):
            self.shape = (1, *self.shape)
        if not self.shape or not self.shape[0]:
            raise DataError(f"{self.origin} holds no images (shape {self.shape})")

    def __len__(self) -> int:
        return self.shape[0]

    def names(self, start: int, stop: int) -> list[str]:
        """Places in the array."""
        return [str(place) for place in range(start, min(stop, len(self)))]

    def version(self, start: int, stop: int) -> str:
        """See `Images`."""
        return _version([self.path], [self.name, str(start), str(min(stop, len(self)))])

    def batches(self, size: int, start: int = 0) -> Iterator[Batch]:
        """(places in the array as text, [B, ...]) of so many at a time, from a place on.

        Raises:
            DataError: the file ends before its array does.
        """
        inner = self.shape[1:]
        sample = math.prod(inner) * self.dtype.itemsize
        try:
            with self._open() as file:
                self._header(file)
                file.seek(start * sample, os.SEEK_CUR)
                for begin in range(start, len(self), size):
                    count = min(size, len(self) - begin)
                    content = file.read(count * sample)
                    if len(content) < count * sample:
                        raise EOFError
                    # torch takes no array that cannot be written to
                    images = np.frombuffer(bytearray(content), dtype=self.dtype).reshape(count, *inner)
                    yield self.names(begin, begin + count), images
        except _DAMAGED:
            raise DataError(f"{self.origin} cannot be read, truncated? Write it again with numpy") from None

    def _find(self, name: str | None) -> str:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        except _DAMAGED:
            raise DataError(f"{self.path}: truncated, or no .npz; write it with numpy.savez(path, x=...)") from None
        known = ", ".join(names) or "nothing"
        if name is not None:
            if name not in names:
                raise DataError(f"array={name}: {self.path} has {known}")
            return name
        usual = [each for each in ("x_test", "x", "images") if each in names]
        if len(names) == 1 or usual:
            return names[0] if len(names) == 1 else usual[0]
        raise DataError(f"{self.path}: holds {known}; say which one: array=NAME")

    def _open(self) -> IO[bytes]:
        if not self.name:
            return self.path.open("rb")
        # a member outlives the archive object it was opened from
        return zipfile.ZipFile(self.path).open(f"{self.name}.npy")

    def _size(self) -> int:
        """Bytes that the array's file has in all: its header may claim more than any machine's memory holds."""
        if not self.name:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(f"{self.name}.npy").file_size

    def _header(self, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise DataError(f"{self.origin} holds pickled Python objects, which are not read as they can run code")
        if min(shape, default=0) < 0 or file.tell() + math.prod(shape) * dtype.itemsize > self._size():
            raise EOFError
        if fortran and len(shape) > 1:
            raise DataError(f"{self.origin} is stored in Fortran order; write numpy.ascontiguousarray of it")
        return shape, dtype
