"""Scores of any number of images: a batch at a time, kept in parts, so that a killed run goes on where it was."""

from __future__ import annotations

import io
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdrobust.detection.roc import Scores
from kdrobust.errors import UsageError
from kdrobust.serving.images import Images
from kdrobust.serving.tables import check_output, parquet, published
from kdrobust.tracking import write_bytes
from kdrobust.tracking.csv_file import CsvWriter

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("input", "score", "flagged")
#: A part is written after so many seconds or images, whichever comes first.
_SECONDS, _IMAGES = 5.0, 1 << 16


def check_scores_output(path: str | Path) -> None:
    """Refuse what could not be written, before anything is computed.

    Raises:
        UsageError: another ending, a missing package, or a file that is there already.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"output={path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    check_output(path)


class Parts:
    """Scores on disk, in files of some thousands, in the images' order.

    A part counts while the images it was made of have the same names, sizes and times; from the first that does not,
    all is scored again.

    Args:
        folder: of this output alone.
        question: what decides the scores beside the images: hashes and settings.
    """

    def __init__(self, folder: Path, question: str) -> None:
        self.folder = folder
        self._question = question

    def find(self, images: Images) -> int:
        """How many images have their scores already."""
        done = 0
        for path in sorted(self.folder.glob("part_*.npz")):
            part = self._read(path)
            count = 0 if part is None else len(part[1])
            if path != self._path(done) or part is None or part[0] != self._key(images, done, done + count):
                break
            done += count
        for path in self.folder.glob("part_*.npz"):
            if path.name >= self._path(done).name:
                path.unlink()
        return done

    def write(self, images: Images, start: int, scores: Scores) -> None:
        """Keep the scores of images `start` and on, [n].

        Raises:
            RunFolderError: the file cannot be written.
        """
        content = io.BytesIO()
        key = self._key(images, start, start + len(scores))
        np.savez(content, key=np.array(key), scores=scores.astype(np.float32))
        write_bytes(self._path(start), content.getvalue())

    def read(self) -> Iterator[tuple[int, Scores]]:
        """(place of the first, scores [n]), part by part."""
        done = 0
        for path in sorted(self.folder.glob("part_*.npz")):
            part = self._read(path)
            assert part is not None
            yield done, part[1]
            done += len(part[1])

    def _path(self, start: int) -> Path:
        return self.folder / f"part_{start:015d}.npz"

    def _key(self, images: Images, start: int, stop: int) -> str:
        return f"{self._question} {images.version(start, stop)}" if stop > start else ""

    def _read(self, path: Path) -> tuple[str, Scores] | None:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                return str(found["key"]), found["scores"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None


def score_all(
    images: Images,
    score: Callable[[Any], Scores],
    parts: Parts,
    *,
    start: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> None:
    """Score the images from a place on; what was scored is kept, also where one of them cannot be read.

    Args:
        images: to be scored.
        score: pixels [B, ...] to scores [B].
        parts: where scores are kept.
        start: images that have theirs.
        batch_size: images at once.
        progress: told how many more are done.

    Raises:
        DataError: an image that cannot be read, or that the detector does not take.
    """
    waiting: list[Scores] = []
    last = time.monotonic()
    kept = start

    def keep() -> None:
        nonlocal kept, last
        if waiting:
            scores = np.concatenate(waiting)
            parts.write(images, kept, scores)
            kept += len(scores)
            waiting.clear()
        last = time.monotonic()

    try:
        for names, pixels in images.batches(batch_size, start):
            waiting.append(score(pixels))
            progress(len(names))
            if time.monotonic() - last > _SECONDS or sum(map(len, waiting)) >= _IMAGES:
                keep()
    finally:
        keep()


def write_scores(path: Path, images: Images, parts: Parts, threshold: float) -> int:
    """Put the parts together to a table of `input`, `score`, `flagged` and remove them; returns how many are flagged.

    Args:
        path: ending in `.csv` or `.parquet`; appears when it is complete.
        images: for their names.
        parts: all of the scores.
        threshold: what lies above it is flagged.

    Raises:
        RunFolderError: it cannot be written.
    """
    flagged = 0
    with published(path) as file:
        write = _csv(file) if path.suffix.lower() == ".csv" else _parquet(file)
        next(write)
        for start, scores in parts.read():
            flags = scores > threshold
            flagged += int(flags.sum())
            write.send((images.names(start, start + len(scores)), scores, flags))
        write.close()
    shutil.rmtree(parts.folder, ignore_errors=True)
    return flagged


def _csv(file: Any) -> Any:
    writer = CsvWriter(file, COLUMNS)
    while True:
        names, scores, flags = yield
        rows = zip(names, scores.tolist(), flags.tolist(), strict=True)
        writer.rows([name, f"{score:.7g}", int(flag)] for name, score, flag in rows)


def _parquet(file: Any) -> Any:
    arrow = parquet()
    kinds = (arrow.string(), arrow.float32(), arrow.bool_())
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with arrow.parquet.ParquetWriter(file.buffer, schema) as writer:
        while True:
            values = yield
            arrays = [arrow.array(value, type=kind) for value, kind in zip(values, kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
