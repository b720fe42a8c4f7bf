"""CIFAR's files are Python pickles, which can run code: looking before reading."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from kdrobust.errors import DataError

_PLAIN = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Hand out what arrays are made of."""
        if (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def refuse_code(path: Path) -> None:
    """Refuse a pickle that holds anything but numbers, texts, containers and NumPy arrays.

    Raises:
        DataError: it does; nothing of it has been run.
        pickle.UnpicklingError, EOFError: it is damaged.
    """
    try:
        _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        if "it asks for" in str(error):
            raise DataError(f"{path}: this pickle could run code ({error}); get the published file") from None
        raise
