"""Spoken digits made by a synthesiser: for machines without recordings, and for tests."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdrobust.errors import DataError

_log = logging.getLogger(__name__)

PROGRAM = "espeak-ng"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SECONDS = 30.0


class EspeakDigits:
    """The ten digits by espeak-ng, once for each voice, accent, rate and pitch.

    The recordings are kept in `<root>/espeak_digits/<hash>`, a folder for each choice of settings and version of the
    program, and are not made twice. A voice counts as a speaker. One formant synthesiser makes all of them: they test
    a recipe, and say little about people.

    Args:
        voices: variants of espeak-ng (`espeak-ng --voices=variant`).
        accents: its English voices (`espeak-ng --voices=en`).
        rates: words a minute, 80 to 450.
        pitches: 0 to 99.

    Raises:
        ValueError: no voices, accents, rates or pitches, or one out of its range.
    """

    def __init__(
        self,
        *,
        voices: Sequence[str],
        accents: Sequence[str] = ("en-us", "en-gb"),
        rates: Sequence[int] = (150, 190),
        pitches: Sequence[int] = (40, 60),
    ) -> None:
        for key, values in (("voices", voices), ("accents", accents), ("rates", rates), ("pitches", pitches)):
            if not values:
                raise ValueError(f"{key}: expected at least one")
        for name in [*voices, *accents]:
            # they become part of file names and of arguments
            if not str(name).replace("-", "").isalnum() or str(name).startswith("-"):
                raise ValueError(f"voices: {name!r} is no name of a voice")
        if not all(80 <= rate <= 450 for rate in rates) or not all(0 <= pitch <= 99 for pitch in pitches):
            raise ValueError("rates: expected 80 to 450 words a minute, and pitches of 0 to 99")
        self.voices = [str(voice) for voice in voices]
        self.manners = list(itertools.product([str(accent) for accent in accents], rates, pitches))

    def folder(self, root: Path) -> Path:
        """Where the recordings are, made first if need be.

        Raises:
            DataError: espeak-ng is missing, or fails.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise DataError(
                f"{PROGRAM}: not installed; apt-get install {PROGRAM} (Debian, Ubuntu), brew install {PROGRAM} "
                "(macOS), or choose recordings: data=fsdd"
            )
        version = _run([program, "--version"]).partition(" Data at")[0].strip()
        told = json.dumps([version, self.voices, self.manners])
        place = Path(root).expanduser() / "espeak_digits" / hashlib.sha256(told.encode()).hexdigest()[:12]
        if not place.is_dir():
            jobs = list(self._jobs())
            _log.info("%s speaks %d recordings into %s", PROGRAM, len(jobs), place)
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as scratch:
                made = Path(scratch) / place.name
                made.mkdir()
                for name, arguments in jobs:
                    _run([program, *arguments[:-1], "-w", str(made / name), arguments[-1]])
                shutil.move(made, place)
        return place

    def _jobs(self) -> Iterator[tuple[str, list[str]]]:
        """File name and arguments of each recording, the word last."""
        for digit, word in enumerate(DIGITS):
            for voice in self.voices:
                for index, (accent, rate, pitch) in enumerate(self.manners):
                    manner = ["-v", f"{accent}+{voice}", "-s", str(rate), "-p", str(pitch)]
                    yield f"{digit}_{voice}_{index}.wav", [*manner, word]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{PROGRAM}: cannot be run ({type(error).__name__}); install it anew") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"{PROGRAM}: failed ({told[0][:120] if told else done.returncode}); install it anew")
    return done.stdout
