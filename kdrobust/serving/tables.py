"""Predictions as CSV, JSON or Parquet, written while they come and put in place when they are complete."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.serving.student import Prediction
from kdrobust.tracking.csv_file import CsvWriter

SUFFIXES = (".csv", ".json", ".parquet")
_FIRST = ("input", "class", "name", "confidence")


class Writer(Protocol):
    """Takes predictions batch by batch."""

    def write(self, names: list[str], found: Prediction) -> None:
        """Append a line an image."""

    def close(self) -> None:
        """Write what ends the file."""


def columns(class_names: tuple[str, ...]) -> list[str]:
    """`input`, `class` (its number), `name`, `confidence`, then `p_<class>`: the probability of each class."""
    return [*_FIRST, *(f"p_{name}" for name in class_names)]


def check_output(path: str | Path | None) -> None:
    """Refuse what could not be written, before anything is computed.

    Raises:
        UsageError: another ending, a missing package, or a file that is there already.
    """
    if path is None:
        return
    place = Path(path).expanduser()
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(f"output={path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if place.exists():
        raise UsageError(f"output={path}: exists already; choose another name, or delete it")
    if place.suffix.lower() == ".parquet":
        parquet()


@contextlib.contextmanager
def open_table(path: str | Path | None, class_names: tuple[str, ...]) -> Iterator[Writer]:
    """A table to write to; it appears at `path` when the block ends without an error, and else not at all.

    Args:
        path: ending in `.csv`, `.json` or `.parquet`; None: CSV on standard output.
        class_names: K names.

    Raises:
        RunFolderError: it cannot be written.
    """
    if path is None:
        yield _Csv(sys.stdout, class_names)
        return
    place = Path(path).expanduser()
    kind: Any = {".csv": _Csv, ".json": _Json, ".parquet": _Parquet}[place.suffix.lower()]
    with published(place) as file:
        writer: Writer = kind(file, class_names)
        yield writer
        writer.close()


@contextlib.contextmanager
def published(path: Path) -> Iterator[TextIO]:
    """A file to write to; it appears at `path` when the block ends without an error, and else not at all.

    Raises:
        RunFolderError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise RunFolderError(f"output={path}: cannot be written ({error.strerror})") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(f"output={path}: cannot be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _rows(names: list[str], found: Prediction) -> Iterator[list[Any]]:
    places = zip(names, found.classes.tolist(), found.confidence.tolist(), found.probabilities.tolist(), strict=True)
    for name, label, confidence, probabilities in places:
        yield [name, label, found.class_names[label], confidence, *probabilities]


class _Csv:
    def __init__(self, file: TextIO, class_names: tuple[str, ...]) -> None:
        self._file = file
        self._writer = CsvWriter(file, columns(class_names))

    def write(self, names: list[str], found: Prediction) -> None:
        # seven digits hold a float32
        self._writer.rows([*row[:3], *(f"{value:.7g}" for value in row[3:])] for row in _rows(names, found))

    def close(self) -> None:
        self._file.flush()


class _Json:
    """A list with one object a line: as JSON a whole, and readable line by line."""

    def __init__(self, file: TextIO, class_names: tuple[str, ...]) -> None:
        self._file = file
        self._between = "[\n"

    def write(self, names: list[str], found: Prediction) -> None:
        for name, label, text, confidence, *probabilities in _rows(names, found):
            entry = dict(zip(_FIRST, (name, label, text, confidence), strict=True))
            entry["probabilities"] = dict(zip(found.class_names, probabilities, strict=True))
            self._file.write(self._between + json.dumps(entry, ensure_ascii=False))
            self._between = ",\n"

    def close(self) -> None:
        self._file.write(f"{'[' if self._between[0] == '[' else ''}\n]\n")


class _Parquet:
    """A row group a batch."""

    def __init__(self, file: TextIO, class_names: tuple[str, ...]) -> None:
        arrow = parquet()
        kinds = [arrow.string(), arrow.int64(), arrow.string(), *([arrow.float32()] * (len(class_names) + 1))]
        self._arrow = arrow
        self._schema = arrow.schema(list(zip(columns(class_names), kinds, strict=True)))
        self._writer = arrow.parquet.ParquetWriter(file.buffer, self._schema)

    def write(self, names: list[str], found: Prediction) -> None:
        values = [names, found.classes, found.names, found.confidence, *found.probabilities.T]
        arrays = [self._arrow.array(value, type=field.type) for value, field in zip(values, self._schema, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def parquet() -> Any:
    """The package pyarrow with its `parquet`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("output: Parquet needs pyarrow; pip install pyarrow, or choose .csv or .json") from None
    return pyarrow
