"""Runs that take turns: medians of their times, and ratios to the first of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Absent(Exception):
    """Why a run cannot be made here; one clause."""


def alternate(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, Any]]:
    """Time runs in turn, so that whatever else the machine does meets all of them alike.

    Args:
        runs: by name, the baseline first; each is called once more before, to warm up.
        repeats: how often each is timed.

    Returns:
        For each: `seconds` and `processor` (lists: wall time, this process's own processor time), `speed` and
        `processor_speed` (the baseline's median over its own), `answer` (what the last call returned); or `absent`.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        try:
            run()
            table[name] = {"seconds": [], "processor": []}
        except Absent as reason:
            table[name] = {"absent": str(reason)}
    present = [name for name in runs if "absent" not in table[name]]
    for _ in range(repeats):
        for name in present:
            began, worked = time.perf_counter(), time.process_time()
            table[name]["answer"] = runs[name]()
            table[name]["seconds"].append(time.perf_counter() - began)
            table[name]["processor"].append(time.process_time() - worked)
    _divide([table[name] for name in present])
    return table


def compared(times: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, Any]]:
    """As `alternate`, of times (wall, processor) that were taken elsewhere."""
    table: dict[str, dict[str, Any]] = {
        name: {"seconds": [wall for wall, _ in taken], "processor": [worked for _, worked in taken]}
        for name, taken in times.items()
    }
    _divide(list(table.values()))
    return table


def _divide(rows: Sequence[dict[str, Any]]) -> None:
    """The first one's medians over each one's own."""
    for row in rows:
        for kind, ratio in (("seconds", "speed"), ("processor", "processor_speed")):
            row[ratio] = statistics.median(rows[0][kind]) / max(statistics.median(row[kind]), 1e-9)


def show(name: str, table: Mapping[str, Any]) -> None:
    """Print a row of the benchmark, a line a run."""
    print(f"\n{name}", flush=True)
    for run, row in table.items():
        if "absent" in row:
            print(f"  {run:<46} not run: {row['absent']}")
            continue
        cells = ""
        if "seconds" in row:
            milliseconds = 1e3 * statistics.median(row["seconds"])
            cells = f"{milliseconds:10.1f} ms   speed {row['speed']:5.2f}   processor {row['processor_speed']:5.2f}   "
        reached = ", ".join(f"{key} {value:.6g}" for key, value in row.get("reached", {}).items())
        print(f"  {run:<46} {cells}{reached}")
