"""The Free Spoken Digit Dataset: real voices, fetched from its public home when asked for."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from urllib.request import urlopen

from kdrobust.errors import DataError

_log = logging.getLogger(__name__)

#: One commit of the data set, so that everybody has the same recordings.
ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aa.tar.gz"
#: Recordings in it: 6 speakers, 10 digits, 50 of each.
RECORDINGS = 3000
#: Sha256 over name, length and bytes of the recordings 0 to 29 of each speaker and digit, see `first_thirty`.
FIRST_THIRTY = "cff488296042409104dc35ae3aa33d440acd166421d517daca5fbcc5a7ef988d"
#: Seconds without an answer after which the download is given up.
TIMEOUT = 30.0
_MOST_BYTES = 1 << 20


class FreeSpokenDigits:
    """3,000 recordings of the digits by six speakers, 8 kHz, in `<root>/fsdd/recordings`.

    Args:
        download: fetch them if they are not there (about 10 MB); the commit is fixed and the content checked.

    Source: Jackson et al., Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0).
    """

    def __init__(self, *, download: bool = True) -> None:
        self.download = download

    def folder(self, root: Path) -> Path:
        """Where the recordings are, fetched first if need be.

        Raises:
            DataError: they are not there and cannot be had.
        """
        place = Path(root).expanduser() / "fsdd" / "recordings"
        if not place.is_dir():
            remedy = f"unpack {ADDRESS} and put its folder recordings there, or name it by data.source.path"
            if not self.download:
                raise DataError(f"{place}: no such folder; set data.source.recordings.download=true, or {remedy}")
            _log.info("downloading the Free Spoken Digit Dataset (10 MB) to %s", place)
            try:
                fetch(ADDRESS, place)
            except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
                reason = str(error).strip().removeprefix("<urlopen error ").removesuffix(">") or type(error).__name__
                raise DataError(f"{place}: not there, and the download failed ({reason[:120]}); {remedy}") from None
        return place


def fetch(address: str, place: Path) -> None:
    """Download the archive and take its recordings out of it; the folder appears when all of it is there.

    Args:
        address: of a .tar.gz with `*/recordings/*.wav`.
        place: the folder to make.

    Raises:
        OSError: no connection, or no space.
        ValueError: an archive of other content than published.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fsdd-") as scratch:
        made = Path(scratch) / "recordings"
        made.mkdir()
        with urlopen(address, timeout=TIMEOUT) as answer, tarfile.open(fileobj=answer, mode="r|gz") as archive:
            for member in archive:
                path = Path(member.name)
                # a file's name alone is used, so that no archive writes elsewhere; links and giants are no recordings
                if not member.isfile() or member.size > _MOST_BYTES:
                    continue
                if path.parent.name != "recordings" or path.suffix != ".wav":
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    (made / path.name).write_bytes(content.read())
        count = len(list(made.iterdir()))
        if count != RECORDINGS or first_thirty(made) != FIRST_THIRTY:
            raise ValueError(f"{address} is not the published data set: {count} recordings, or other content")
        shutil.move(made, place)


def first_thirty(folder: Path) -> str:
    """Sha256 in hex over name, length and bytes of the recordings with a number below 30."""
    state = hashlib.sha256()
    for path in sorted(folder.glob("*.wav")):
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and int(number) < 30:
            content = path.read_bytes()
            state.update(f"{path.name}\0{len(content)}\0".encode())
            state.update(content)
    return state.hexdigest()
