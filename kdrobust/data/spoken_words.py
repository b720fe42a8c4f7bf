"""Spoken words as waveforms: any folder of wav files, the Free Spoken Digit Dataset, Speech Commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from kdrobust.data.arrays import Arrays
from kdrobust.data.recordings import Parts, Recording, list_recordings, part_by_index, part_by_lists, part_by_speaker
from kdrobust.media.wav import Format, WavFiles

SPLITS = ("speaker", "index", "lists")


class Recordings(Protocol):
    """What can fetch or make recordings: anything with this one method."""

    def folder(self, root: Path) -> Path:
        """The folder they are in, made first if need be.

        Args:
            root: folder that data sets are kept in.

        Raises:
            DataError: they cannot be had.
        """
        ...


class SpokenWords:
    """A folder of recordings as signals in [-1, 1], shape (1, samples).

    `WORD_SPEAKER_INDEX.wav` files, or one folder a word. Every file is brought to one rate, length and loudness:
    channels are averaged, other rates resampled, longer recordings keep their middle, shorter ones stand between
    zeros, and the loudest sample of each becomes ±`peak`. With `data.loader=workers` files are decoded as batches need
    them.

    Args:
        path: the folder, relative to the working directory; None: what `recordings` gives.
        recordings: fetches or makes them, where no path is given.
        sample_rate: samples a second, >= 1000.
        seconds: length of every signal, > 0.
        peak: largest absolute value, in (0, 1); below 1, so that a perturbation is not cut off at the loudest sample.
        split: `speaker` keeps whole speakers for the test, `index` some recordings of every speaker, `lists` what
            Speech Commands' own lists say.
        test_speakers: for `speaker`: who is in the test set alone.
        validation_speakers: for `speaker`: who is in the validation set alone; none: a share of the others' recordings.
        test_indices: for `index`: which of the recordings of each speaker and word are the test set.
        words: only these, in the order of the classes; None: all, alphabetically.

    Raises:
        ValueError: neither path nor recordings, an unknown split, or a number out of its range; the message begins with
            the argument's name.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        recordings: Recordings | None = None,
        sample_rate: int = 8000,
        seconds: float = 1.0,
        peak: float = 0.9,
        split: Literal["speaker", "index", "lists"] = "speaker",
        test_speakers: Sequence[str] = (),
        validation_speakers: Sequence[str] = (),
        test_indices: Sequence[int] = (0, 1, 2, 3, 4),
        words: Sequence[str] | None = None,
    ) -> None:
        if path is None and recordings is None:
            raise ValueError("path: expected the folder of your recordings")
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        if sample_rate < 1000:
            raise ValueError(f"sample_rate: expected at least 1000 samples a second, got {sample_rate}")
        if round(seconds * sample_rate) < 1:
            raise ValueError(f"seconds: expected more than 0, got {seconds}")
        if not 0 < peak < 1:
            raise ValueError(f"peak: expected a number between 0 and 1, got {peak}")
        self.path = None if path is None else Path(path).expanduser()
        self.recordings = recordings
        self.format = Format(sample_rate=sample_rate, samples=round(seconds * sample_rate), peak=peak)
        self.split = split
        self.test_speakers = [str(name) for name in test_speakers]
        self.validation_speakers = [str(name) for name in validation_speakers]
        self.test_indices = list(test_indices)
        self.words = None if words is None else [str(word) for word in words]

    def load(self, root: Path) -> Arrays:
        """List the files and part them; they are decoded later.

        Args:
            root: folder that downloaded data sets are kept in.

        Raises:
            DataError: a missing folder, recordings that cannot be had, or names that do not tell what the split
                asks for.
        """
        origin = self.path
        if origin is None:
            assert self.recordings is not None
            origin = self.recordings.folder(root)
        found = list_recordings(origin, self.words)
        parts = self._part(found, origin)
        words = self.words or sorted({each.word for each in found})
        return Arrays(
            x_train=self._files(parts.train),
            y_train=self._labels(parts.train, words),
            x_test=self._files(parts.test),
            y_test=self._labels(parts.test, words),
            origin=str(origin),
            class_names=tuple(words),
            bounds=(-1.0, 1.0),
            sample_rate=self.format.sample_rate,
            peak=self.format.peak,
            validation=np.array(parts.validation, dtype=np.int64),
        )

    def _part(self, found: Sequence[Recording], origin: Path) -> Parts:
        if self.split == "speaker":
            return part_by_speaker(found, self.test_speakers, self.validation_speakers, origin)
        if self.split == "index":
            return part_by_index(found, self.test_indices, origin)
        return part_by_lists(found, origin)

    def _files(self, chosen: Sequence[Recording]) -> WavFiles:
        return WavFiles(paths=[each.path for each in chosen], format=self.format)

    def _labels(self, chosen: Sequence[Recording], words: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([words.index(each.word) for each in chosen], dtype=np.int64)
