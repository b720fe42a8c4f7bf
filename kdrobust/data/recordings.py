"""Which recordings lie in a folder: their words, speakers and numbers, read off the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdrobust.errors import DataError

_FLAT = re.compile(r"(?P<word>[^_]+)_(?P<speaker>.+)_(?P<index>\d+)")
#: Names inside of a class's folder: Speech Commands', and speaker_number.
_INSIDE = (re.compile(r"(?P<speaker>.+)_nohash_(?P<index>\d+)"), re.compile(r"(?P<speaker>.+)_(?P<index>\d+)"))


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One wav file.

    Attributes:
        path: of the file.
        word: what is said in it: its class.
        speaker: who says it; None where the name does not tell.
        index: which of this speaker's recordings of the word; None where the name does not tell.
    """

    path: Path
    word: str
    speaker: str | None
    index: int | None


def list_recordings(folder: Path, words: Sequence[str] | None = None) -> list[Recording]:
    """The recordings of a folder, sorted by path.

    Either `WORD_SPEAKER_INDEX.wav` files lie in it, or one folder a word (folders that begin with `_` or `.` are no
    words); there `SPEAKER_INDEX.wav` and Speech Commands' `SPEAKER_nohash_INDEX.wav` tell speaker and number.

    Args:
        folder: where to look.
        words: only these; None: all.

    Raises:
        DataError: no such folder, no recordings, a flat file whose name says no word, or words without recordings.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; data.source.path names one that holds wav files")
    flat = _wavs(folder)
    found = [_flat(path) for path in flat]
    if not flat:
        places = sorted(place for place in folder.iterdir() if place.is_dir() and place.name[0] not in "._")
        found = [_inside(path) for place in places for path in _wavs(place)]
    if not found:
        raise DataError(
            f"{folder}: no recordings; put WORD_SPEAKER_INDEX.wav files into it, or a folder of wav files for each word"
        )
    if words is None:
        return found
    absent = [word for word in words if word not in {each.word for each in found}]
    if absent:
        raise DataError(f"{folder}: no recordings of {absent[0]!r}; data.source.words names words that are there")
    return [each for each in found if each.word in words]


def _wavs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav" and path.name[0] != ".")


def _flat(path: Path) -> Recording:
    match = _FLAT.fullmatch(path.stem)
    if match is None:
        raise DataError(
            f"{path}: expected WORD_SPEAKER_INDEX.wav; rename it, or make a folder for each word and sort the files in"
        )
    return Recording(path=path, word=match["word"], speaker=match["speaker"], index=int(match["index"]))


def _inside(path: Path) -> Recording:
    for pattern in _INSIDE:
        if match := pattern.fullmatch(path.stem):
            return Recording(path=path, word=path.parent.name, speaker=match["speaker"], index=int(match["index"]))
    return Recording(path=path, word=path.parent.name, speaker=None, index=None)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Recordings of training and test, and which of the training ones are set aside for validation.

    Attributes:
        train: validation included.
        test: disjoint from these.
        validation: places in `train`; none: a share is drawn later.
    """

    train: list[Recording]
    test: list[Recording]
    validation: list[int]


def part_by_speaker(found: Sequence[Recording], test: Sequence[str], validation: Sequence[str], origin: Path) -> Parts:
    """Whole speakers for training, validation and test: what is learnt of one says nothing of the others.

    Raises:
        DataError: names without speakers, a speaker who is not there, one in both sets, or nobody left.
    """
    nameless = next((each.path for each in found if each.speaker is None), None)
    if nameless is not None:
        raise DataError(f"{nameless}: its name tells no speaker (SPEAKER_INDEX.wav); set data.source.split=index")
    there = sorted({str(each.speaker) for each in found})
    for key, names in (("test_speakers", test), ("validation_speakers", validation)):
        strangers = [name for name in names if name not in there]
        if strangers:
            shown = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
            raise DataError(f"{origin}: data.source.{key} names {strangers[0]!r}; there are {shown}")
    both = sorted(set(test) & set(validation))
    if both:
        raise DataError(f"{origin}: {both[0]!r} is in data.source.test_speakers and in validation_speakers")
    if not test or len({*test, *validation}) == len(there):
        raise DataError(
            f"{origin}: data.source.test_speakers holds {len(test)} of {len(there)} speakers; name some of "
            f"{', '.join(there[:20])}, and leave some for training"
        )
    train = [each for each in found if each.speaker not in test]
    return Parts(
        train=train,
        test=[each for each in found if each.speaker in test],
        validation=[place for place, each in enumerate(train) if each.speaker in validation],
    )


def part_by_index(found: Sequence[Recording], indices: Sequence[int], origin: Path) -> Parts:
    """Some numbers of every speaker and word for the test: speakers are shared.

    A file whose name tells no number counts by its place among those of its word.

    Raises:
        DataError: all recordings, or none, have these numbers.
    """
    seen: dict[str, int] = {}
    train: list[Recording] = []
    test: list[Recording] = []
    for each in found:
        place = seen[each.word] = seen.get(each.word, -1) + 1
        (test if (place if each.index is None else each.index) in indices else train).append(each)
    if not train or not test:
        raise DataError(
            f"{origin}: data.source.test_indices={list(indices)} leaves {len(train)} recordings for training and "
            f"{len(test)} for the test; choose others"
        )
    return Parts(train=train, test=test, validation=[])


def part_by_lists(found: Sequence[Recording], origin: Path) -> Parts:
    """As Speech Commands' own `testing_list.txt` and `validation_list.txt` say; the rest is for training.

    Raises:
        DataError: a list that is missing, or names a file of these words that is not there.
    """
    by_name = {f"{each.path.parent.name}/{each.path.name}": each for each in found}
    words = {each.word for each in found}
    listed: dict[str, set[str]] = {}
    for name in ("testing_list.txt", "validation_list.txt"):
        try:
            lines = (origin / name).read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            raise DataError(
                f"{origin / name}: not there or not readable; set data.source.split=speaker or index"
            ) from None
        listed[name] = {line for line in lines if line.partition("/")[0] in words}
        missing = sorted(listed[name] - set(by_name))
        if missing:
            raise DataError(f"{origin / missing[0]}: {name} names it, but it is not there; unpack the data set again")
    train = [each for name, each in by_name.items() if name not in listed["testing_list.txt"]]
    test = [each for name, each in by_name.items() if name in listed["testing_list.txt"]]
    if not train or not test:
        raise DataError(f"{origin}: testing_list.txt leaves {len(train)} recordings for training, {len(test)} to test")
    aside = listed["validation_list.txt"]
    validation = [place for place, each in enumerate(train) if f"{each.word}/{each.path.name}" in aside]
    return Parts(train=train, test=test, validation=validation)
