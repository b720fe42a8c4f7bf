"""How far a command is that looks at many inputs, and how fast."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_SECONDS = 10.0


class Progress:
    """A line on standard error every ten seconds, and one at the end.

    Args:
        total: inputs.
        task: what the lines begin with.
        noun: what there is one of an input at the end.
        done: inputs that an earlier process has dealt with.
        stream: where to; None: standard error.
    """

    def __init__(self, total: int, *, task: str, noun: str, done: int = 0, stream: TextIO | None = None) -> None:
        self._total = total
        self._task, self._noun = task, noun
        self._stream = stream or sys.stderr
        self._done = self._before = done
        self._began = self._last = time.monotonic()

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            rate = (self._done - self._before) / (now - self._began)
            left = round((self._total - self._done) / rate)
            print(f"{self._task}  {self._done}/{self._total}  {rate:.0f} a second  left {left}s", file=self._stream)
            self._last = now

    def end(self, where: str) -> None:
        """All are done, and lie there."""
        spent = time.monotonic() - self._began
        now = self._done - self._before
        rate = f", {now / spent:.0f} a second" if spent > 0 else ""
        before = f" ({self._before} of an earlier run)" if self._before else ""
        print(f"{self._done} {self._noun}{before} in {spent:.1f} s{rate}: {where}", file=self._stream)
