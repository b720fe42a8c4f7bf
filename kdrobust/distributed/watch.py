"""Threads that end a process which waits for another one in vain: its main thread can do nothing while it waits.

A rendezvous or a collective is one call into C++. Until it returns no Python runs in the main thread: no exception of
another rank's death, no handler of SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from kdrobust.tracking import mark_failed

log = logging.getLogger("kdrobust")


def _end(code: int) -> None:
    # no clean-up: it would wait for the main thread
    os._exit(code)


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


class RankWatch(threading.Thread):
    """Ends this process where another rank has failed and this one, waiting for it, never learns so.

    Lightning's own does it within seconds of any failure, and takes down the sweep of which the job is a part. Most
    often a collective raises, and the job fails by itself: there is time for that. Not so before the ranks have found
    each other: then nothing raises.

    Args:
        processes: the other ranks; emptied when the job is over.
        folder: the job's run folder, whose status then says what happened.
        grace: seconds this process may take to fail by itself.
        alone: the same before the ranks have found each other.
        period: seconds between two looks.
    """

    def __init__(
        self,
        processes: list[subprocess.Popen[bytes]],
        folder: Path | None = None,
        *,
        grace: float = 60.0,
        alone: float = 5.0,
        period: float = 1.0,
    ) -> None:
        super().__init__(daemon=True, name="rank-watch")
        self.processes, self.folder = processes, folder
        self.grace, self.alone, self.period = grace, alone, period

    def run(self) -> None:
        """Look until the job is over."""
        while self.processes and not any(process.poll() for process in list(self.processes)):
            time.sleep(self.period)
        deadline = time.monotonic() + (self.grace if _is_joined() else self.alone)
        while self.processes and time.monotonic() < deadline:
            time.sleep(self.period)
        if self.processes:
            reason = "trainer: another rank of this job ended with an error, and this one waits for it; giving up"
            log.error(reason)
            for process in list(self.processes):
                process.kill()
            if self.folder is not None:
                mark_failed(self.folder, reason)
            _end(1)


class SignalWatch(threading.Thread):
    """Ends this process where SIGTERM or SIGINT comes while its main thread waits in a call that does not return.

    Handlers of signals run in the main thread, between two instructions of Python. One that is still at the same
    instruction after `patience` seconds is in C++, most often waiting for another rank.

    Args:
        processes: children to end too.
        folder: the job's run folder, whose status then says what happened.
        patience: seconds.
        period: seconds between two looks.
    """

    def __init__(
        self,
        processes: list[subprocess.Popen[bytes]],
        folder: Path | None = None,
        *,
        patience: float = 15.0,
        period: float = 0.5,
    ) -> None:
        super().__init__(daemon=True, name="signal-watch")
        self.processes, self.folder, self.patience, self.period = processes, folder, patience, period
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)

    def listen(self) -> None:
        """Learn of every signal that has a handler, from now on; in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
            self.start()

    def run(self) -> None:
        """Wait for signals."""
        main = threading.main_thread()
        while main.is_alive():
            number = os.read(self._readable, 1)
            if number and number[0] in (signal.SIGTERM, signal.SIGINT) and self._is_stuck(main.ident):
                name = signal.Signals(number[0]).name
                reason = f"{name}: ended while waiting for another process; the same command again goes on"
                os.write(2, f"{reason}\n".encode())
                for process in list(self.processes):
                    process.kill()
                if self.folder is not None:
                    mark_failed(self.folder, reason)
                _end(128 + number[0])

    def _is_stuck(self, main: int | None) -> bool:
        first = _place(main)
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            time.sleep(self.period)
            if _place(main) != first:
                return False
        return True


def _place(thread: int | None) -> tuple[int, int] | None:
    frame = None if thread is None else sys._current_frames().get(thread)
    return None if frame is None else (id(frame), frame.f_lasti)


_signals: SignalWatch | None = None


def watch(processes: list[subprocess.Popen[bytes]], folder: Path | None) -> None:
    """Watch a job of several ranks from within one of them: that the others live, and that signals are obeyed.

    Args:
        processes: the ranks that this process has started; emptied when the job is over.
        folder: the job's run folder; given by the rank that writes its status.
    """
    global _signals
    if processes:
        RankWatch(processes, folder).start()
    if _signals is None:
        _signals = SignalWatch(processes, folder)
        _signals.listen()
    else:
        _signals.processes, _signals.folder = processes, folder


def end_with_parent(*, grace: float = 30.0, period: float = 1.0, end: Callable[[int], None] | None = None) -> None:
    """End this process when the one that started it has been killed: what it waits for does not come any more.

    Args:
        grace: seconds in which it may end by itself.
        period: seconds between two looks.
        end: instead of ending the process, for tests.
    """
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(period)
        time.sleep(grace)
        (end or _end)(1)

    threading.Thread(target=look, daemon=True, name="parent-watch").start()
