"""trackio as a logger: a dashboard on this machine, without an account."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from kdrobust.tracking.recorder import Recorder, sweep_of

# trackio reads TRACKIO_DIR when it is imported, so only a run imports it; its absence is told before anything runs
if importlib.util.find_spec("trackio") is None:
    raise ModuleNotFoundError("No module named 'trackio'", name="trackio")

_log = logging.getLogger("kdrobust")


class TrackioRun(Logger, Recorder):
    """A run whose name ends in a hash of its folder, so that a resumed run goes on in the same one.

    Kept in a local database that all runs of this process share; nothing leaves the machine unless trackio's own
    variables (TRACKIO_SPACE_ID, TRACKIO_SERVER_URL) say so.

    Args:
        project: trackio project.
        home: where the database lies; TRACKIO_DIR wins where it is set.
        folder: the run's folder.
        name: the readable part of the run's name.
        group: groups runs; null: the sweep's name in a sweep.
    """

    def __init__(self, *, project: str, home: str, folder: str, name: str, group: str | None = None) -> None:
        super().__init__()
        self.project, self.group = project, group
        self.home = os.environ.setdefault("TRACKIO_DIR", str(Path(home).expanduser().resolve()))
        self._version = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:8]
        self._name = f"{name}-{self._version}"
        self._run: Any = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self._name

    @property
    def version(self) -> str:
        """The part of the name that belongs to the run's folder."""
        return self._version

    @rank_zero_only
    def begin(self, config: Mapping[str, Any]) -> None:
        """Open the run with its config, in its sweep's group."""
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project=self.project,
                name=self._name,
                group=self.group or sweep_of(config),
                config=_public(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: `begin` has the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics at a step."""
        if self._run is not None:
            self._run.log(dict(metrics), step=step)

    @rank_zero_only
    def record(self, result: Mapping[str, Any], folder: Path) -> None:
        """Add the result: its figures and its plots."""
        import trackio

        figures = {f"result/validation/{name}": value for name, value in result.get("validation", {}).items()}
        figures |= {f"result/model/{name}": value for name, value in result.get("model", {}).items()}
        pictures = [folder / str(name) for name in result.get("files", {}).values() if str(name).endswith(".png")]
        images = {f"result/{path.stem}": trackio.Image(path) for path in pictures if path.is_file()}
        self._run.log({**figures, "result/seconds": result["seconds"], **images})

    @rank_zero_only
    def close(self, *, failed: bool) -> None:
        """Close the run, and say how to look at it."""
        if self._run is None:
            return
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()
        self._run = None
        _log.info("trackio: look with `TRACKIO_DIR=%s trackio show --project %s`", self.home, self.project)


def _public(value: Any) -> Any:
    # trackio keeps names that begin with an underscore for itself
    if isinstance(value, Mapping):
        return {str(key).strip("_"): _public(item) for key, item in value.items()}
    return value
