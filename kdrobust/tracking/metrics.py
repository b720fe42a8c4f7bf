"""`metrics.csv`: one row an epoch, and a resumed run goes on with the rows it had."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from kdrobust.errors import RunFolderError
from kdrobust.tracking.atomic import write_text
from kdrobust.tracking.csv_file import csv_records


class MetricsCsv(Logger):
    """Writes every metric of an epoch into one row of `<folder>/metrics.csv`.

    Lightning's own CSV logger deletes the file when a run resumes; this one goes on with the rows of the resume point,
    and so drops those of epochs that will be trained again.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._rows: list[dict[str, Any]] = []

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping an epoch, oldest first."""
        return self._rows

    @property
    def name(self) -> str:
        """Lightning's name of this logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one file a run folder."""
        return ""

    def resume(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take over the rows that an earlier process had at its resume point."""
        self._rows = [dict(row) for row in rows]

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved config stands beside this file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Merge the metrics into the row of their epoch."""
        epoch = int(metrics.get("epoch", self._rows[-1]["epoch"] if self._rows else 0))
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        if not self._rows or int(self._rows[-1]["epoch"]) != epoch:
            self._rows.append({"epoch": epoch})
        # Lightning's step counter is off by one in a resumed run; the epoch says all
        self._rows[-1].update(values)

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        columns = dict.fromkeys(key for row in self._rows for key in row)
        order = ["epoch", *sorted(key for key in columns if key != "epoch")]
        write_text(self.path, csv_records(order, self._rows))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file a last time."""
        # after an error (a full disk, say) that one is to be told, not the next of its kind
        with contextlib.suppress(*([] if status == "success" else [RunFolderError])):
            self.save()
