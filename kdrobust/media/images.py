"""Image files as arrays: the one decoder of class folders and of `kdrobust predict`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdrobust.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
#: EXIF's tag.
_ORIENTATION = 0x0112
#: Where a PNG's bytes hold none of these, it has no orientation, and need not be decoded to look for one.
_PNG_MARKS = (b"eXIf", b"Orientation", b"Raw profile")
#: What PIL's readers raise at damaged files.
_DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError, AttributeError,
    NotImplementedError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image file says before its pixels are decoded.

    Attributes:
        size: (height, width) in pixels, as it is to be seen: EXIF's orientation is heeded.
        orientation: EXIF's, 1 to 8; 1: as stored.
        grey: whether it has one channel, alpha aside.
    """

    size: tuple[int, int]
    orientation: int
    grey: bool


def read_header(path: Path, content: bytes) -> Header:
    """Size and kind of an image.

    Args:
        path: the file's, for messages.
        content: all its bytes.

    Raises:
        DataError: no image, one of too many pixels, or more than 8 bits a channel.
    """
    from PIL import ImageOps

    with _opened(path, content) as image:
        look = image.format != "PNG" or any(mark in content for mark in _PNG_MARKS)
        orientation = _orientation(image) if look else 1
        # readers of some formats turn by themselves: only the turned image knows its size
        seen = image if orientation == 1 else ImageOps.exif_transpose(image)
        return Header(size=(seen.height, seen.width), orientation=orientation, grey=image.mode in GREY)


def read_image(path: Path, shape: tuple[int, ...], *, resize: bool) -> npt.NDArray[np.uint8]:
    """An image's pixels, turned as EXIF's orientation says; an alpha channel is dropped.

    Args:
        path: of the file.
        shape: (channels, height, width); 1 channel: grey, 3: RGB.
        resize: bring another size to this one (bilinear, antialiased) instead of refusing it.

    Returns:
        [C, H, W].

    Raises:
        DataError: no image, one of too many pixels, more than 8 bits a channel, or another size.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(path, read_bytes(path)) as file:
        image = ImageOps.exif_transpose(file).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        if not resize:
            raise DataError(
                f"{path}: {image.width}x{image.height} pixels, the model takes {width}x{height}; set resize=true, "
                "or resize it yourself (accuracy and robustness were measured without resizing)"
            )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); replace or remove it") from None


@contextmanager
def _opened(path: Path, content: bytes) -> Iterator[Any]:
    """An open image of 8 bits a channel; what PIL raises while it is read becomes one line."""
    from PIL import Image

    try:
        # not by its name: PIL maps a plain TIFF into memory, and then takes the width of a turned one for its height
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in (*GREY, *COLOUR):
                raise DataError(
                    f"{path}: pixels of type {image.mode} have more than 8 bits; convert it to 8-bit grey or RGB"
                )
            yield image
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no readable image ({_reason(error)}); replace or remove it") from None


def _orientation(image: Any) -> int:
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _reason(error: BaseException) -> str:
    # PIL's own words name an object in memory
    text = str(error).split("<_io")[0].split(" '")[0].strip().rstrip(".")
    return text or type(error).__name__
