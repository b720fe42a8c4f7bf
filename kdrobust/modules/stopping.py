"""Ctrl-C and SIGTERM while training: the step is finished, then everything is written down."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from kdrobust.errors import StoppedError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


class StopRequest:
    """Remembers the first signal that asks this process to stop.

    A second Ctrl-C leaves at once. SIGUSR1, by which SLURM may announce a pre-emption, counts as SIGTERM.

    Attributes:
        number: the signal's; None: nobody has asked.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> None:
        """Take the signals over. Lightning puts back what was there before when its trainer ends.

        Lightning's own handlers, which this replaces, communicate from within a signal handler (several processes) or
        write a checkpoint in the middle of a step (SLURM).
        """
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # a shell's background job or nohup ignores Ctrl-C, and shall
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number = int(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            # a logger or print may be in the middle of a line
            os.write(2, b"stopping after this step, when the resume point is written; Ctrl-C leaves at once\n")
        elif number == signal.SIGINT:
            raise StoppedError(signal.SIGINT)

    def agreed(self, trainer: Any) -> int | None:
        """The signal that any of the processes has been sent; every one of them has to call this."""
        if trainer.world_size == 1:
            return self.number
        if not trainer.strategy.reduce_boolean_decision(self.number is not None, all=False):
            return None
        return int(signal.SIGTERM) if self.number is None else self.number
