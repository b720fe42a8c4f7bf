"""Standard output and error of the command line: a reader that leaves, a full disk, a narrow encoding, a closed one."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: A command whose reader has left ends as one that SIGPIPE kills: 128 + 13.
READER_LEFT = 141


class _Output(io.RawIOBase):
    """What `sys.stdout` writes to.

    Args:
        descriptor: of the file below.
        needed: what cannot be written ends the command (`list` has no other result); False: it is dropped, as for a
            training, whose result is its folder.
    """

    def __init__(self, descriptor: int, *, needed: bool) -> None:
        super().__init__()
        self._file = io.FileIO(descriptor, "w", closefd=False)
        self.needed = needed
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: Any, /) -> int | None:
        if self.failure is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self.failure = error
                if self.needed:
                    # no `Exception`: nothing between here and the command line takes it for a fault of its own
                    raise SystemExit(exit_code(error)) from None
        return memoryview(data).nbytes


def exit_code(error: OSError) -> int:
    """What a command ends with whose output cannot be written: 141 if its reader has left, 1 otherwise."""
    return READER_LEFT if error.errno == errno.EPIPE else 1


def _open_missing() -> None:
    """A closed descriptor 0, 1 or 2 would be given to the next file that is opened, and printed into."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _wrap(stream: Any, *, needed: bool) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), needed=needed)),
        encoding=stream.encoding,
        # names and ε, τ, ± of a table, on a terminal that has no such letters
        errors="backslashreplace" if stream.errors == "backslashreplace" else "replace",
        line_buffering=True,
    )


def _is_own(stream: Any, original: Any) -> bool:
    return stream is not None and stream is original and isinstance(stream, io.TextIOWrapper)


def _output(stream: Any) -> _Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None


def install() -> None:
    """Put the streams of this module in the place of the interpreter's; what replaced those already is left alone."""
    if sys.__stdout__ is None or sys.__stderr__ is None:
        _open_missing()
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            if getattr(sys, name) is None:
                # the descriptor is there now, and leads nowhere
                setattr(sys, name, _wrap(open(descriptor, "w", closefd=False), needed=False))  # noqa: SIM115
    if _is_own(sys.stdout, sys.__stdout__):
        sys.stdout = _wrap(sys.stdout, needed=True)
    if _is_own(sys.stderr, sys.__stderr__):
        sys.stderr = _wrap(sys.stderr, needed=False)


def go_on_without() -> None:
    """From now on, drop what cannot be printed: the command's result is a folder, and worth more than its lines."""
    install()
    output = _output(sys.stdout)
    if output is not None:
        output.needed = False


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within, printing ends in no traceback.

    A reader that leaves (`| head -1`) ends the command with exit code 141 and a full disk (`> /dev/full`) with 1 and a
    line, except after `go_on_without`; letters that the terminal's encoding lacks become `?`; a closed standard output
    (`>&-`) leads nowhere instead of into the next file that is opened.
    """
    install()
    output = _output(sys.stdout)
    try:
        yield
    finally:
        try:
            # while there is someone to say so: at the interpreter's end it is a traceback
            sys.stdout.flush()
        finally:
            if output is not None and output.failure is not None:
                _say(output.failure, output.needed)


def _say(failure: OSError, needed: bool) -> None:
    if failure.errno != errno.EPIPE:
        rest = "" if needed else "; the files of the run are not affected"
        print(f"standard output: cannot be written ({failure.strerror}){rest}", file=sys.stderr)
