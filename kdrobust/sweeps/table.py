"""`sweep.csv`: one line a job, refreshed as jobs end. No heavy import."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrobust.sweeps.record import Job, read_jobs
from kdrobust.sweeps.summary import summary_csv, swept_keys, values_of, write_importance
from kdrobust.tracking.atomic import write_bytes, write_text
from kdrobust.tracking.csv_file import csv_records

TABLE, SUMMARY, PARQUET = "sweep.csv", "sweep_summary.csv", "sweep.parquet"
_FIGURES = ("value", "accuracy", "robust_accuracy", "seconds", "starts", "folder", "config_hash", "error")


def rows(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The table's rows: job, status, the swept keys as on the command line, seed, then the figures.

    Args:
        jobs: of one sweep.
    """
    keys = [key for key in swept_keys(jobs) if key != "seed"]
    return [
        {
            "job": job.job,
            "status": job.state,
            **{key: values_of(job).get(key) for key in keys},
            "seed": job.seed if job.seed is not None else _whole(values_of(job).get("seed")),
            **{name: getattr(job, name) for name in _FIGURES},
        }
        for job in jobs
    ]


def _whole(text: str | None) -> int | str | None:
    """A seed of a job that has not begun, as the number it is: a column of Parquet has one type."""
    return int(text) if text is not None and text.isdecimal() else text


def as_csv(table: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, unrounded; what is not known is empty."""
    if not table:
        return ""
    return csv_records(list(table[0]), table)


def refresh(folder: Path) -> list[Job]:
    """Write `sweep.csv`, `sweep_summary.csv` and `sweep_importance.csv` from the records; returns these.

    Where pyarrow is installed, `sweep.parquet` holds the same rows.
    """
    jobs = read_jobs(folder)
    table = rows(jobs)
    write_text(folder / TABLE, as_csv(table))
    write_text(folder / SUMMARY, summary_csv(jobs))
    write_importance(folder, jobs)
    if table and importlib.util.find_spec("pyarrow") is not None:
        _write_parquet(folder / PARQUET, table)
    return jobs


def _write_parquet(path: Path, table: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(table)), buffer)
    write_bytes(path, buffer.getvalue())
