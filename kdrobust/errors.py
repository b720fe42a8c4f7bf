"""Errors a user can cause: each is one clear line that names the key or file and the remedy."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class KdrobustError(Exception):
    """Anything the user can mend. The command line prints it as one line, without a traceback.

    Attributes:
        exit_code: what the process ends with: 2 for a mistake on the command line or in a config, 1 for data.
    """

    exit_code = 1


class UsageError(KdrobustError):
    """A mistake in an override or a configuration file."""

    exit_code = 2


class DataError(KdrobustError):
    """Data that cannot be used: missing, of another shape, out of range, with an empty class."""


class CheckpointError(KdrobustError):
    """A checkpoint or stored outputs that are missing, damaged, or belong to something else."""


class AttackError(KdrobustError):
    """Inputs or a model that no attack can be run on honestly (NaN, pixels outside [0, 1], softmax outputs ...)."""


class RunFolderError(KdrobustError):
    """A run folder that cannot be written, or that another process or a finished run holds."""


class RunFolderBusyError(RunFolderError):
    """A run folder that another process is working in: it can be waited for."""


class StoppedError(SystemExit):
    """A signal has ended the run. No `Exception`: a sweep does not go on with its next job.

    Args:
        number: the signal's; the process ends with exit code 128 + number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + int(number))
        self.number = signal.Signals(number)

    def __str__(self) -> str:
        """What a status file says."""
        return f"stopped by {self.number.name}"


#: How an attack names its own settings, which does not know where in a config it stands.
_OWN_KEY = re.compile(r"(?<![\w.])attack\.(?=\w)")


@contextmanager
def keys_below(key: str) -> Iterator[None]:
    """What an attack says of `attack.KEY` is said of `key`.KEY, which can be set: of an attack in a suite, for one.

    Args:
        key: of the attack's node in the config; empty: nothing changes.

    Raises:
        UsageError: the same, with the key that exists.
    """
    try:
        yield
    except UsageError as error:
        if not key or not _OWN_KEY.search(str(error)):
            raise
        raise UsageError(_OWN_KEY.sub(f"{key}.", str(error))) from error.__cause__
