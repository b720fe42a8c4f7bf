"""Loggers that keep more of a run than its metrics, and must be closed with it whatever happens."""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger("kdrobust")


class Recorder(abc.ABC):
    """What a dashboard's logger does beside logging metrics."""

    @abc.abstractmethod
    def begin(self, config: Mapping[str, Any]) -> None:
        """Open the run; `config` is the resolved one, plain."""

    @abc.abstractmethod
    def record(self, result: Mapping[str, Any], folder: Path) -> None:
        """Keep a finished run's result.

        Args:
            result: what `result.json` holds.
            folder: the run's, with the files the result names.
        """

    @abc.abstractmethod
    def close(self, *, failed: bool) -> None:
        """End the run, so that the next job in this process begins its own; a second call does nothing."""


def recorders(loggers: Iterable[Any]) -> list[Recorder]:
    """The recorders among a trainer's loggers."""
    return [logger for logger in loggers if isinstance(logger, Recorder)]


def record_all(loggers: Iterable[Any], result: Mapping[str, Any], folder: Path) -> None:
    """Hand a result to every recorder; one that fails is told, for the result itself is safe on disk."""
    for recorder in recorders(loggers):
        try:
            recorder.record(result, folder)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            _log.warning("%s: the result was not recorded (%s)", type(recorder).__name__, told)


def close_all(loggers: Iterable[Any], *, failed: bool) -> None:
    """Close every recorder; one that fails is told, for it must not hide what ended the run."""
    for recorder in recorders(loggers):
        try:
            recorder.close(failed=failed)
        except Exception as error:
            _log.warning("%s: not closed (%s: %s)", type(recorder).__name__, type(error).__name__, error)


def sweep_of(config: Mapping[str, Any]) -> str | None:
    """The name of the sweep that a run's resolved config is a job of; None for a single run."""
    name = (config.get("run") or {}).get("sweep")
    return str(name) if name else None
