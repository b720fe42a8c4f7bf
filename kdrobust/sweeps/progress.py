"""How far a sweep is, in words. No heavy import."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from kdrobust.sweeps.record import COMPLETED, CUT, FAILED, PENDING, RUNNING, Job, now, read_sweep
from kdrobust.sweeps.summary import best, check_metric, default_metric, importance, settings, swept_keys, values_of

LOG = "sweep.log"
#: A search's own tables.
TRIALS, FRONT = "trials.csv", "pareto.csv"
_ORDER = (COMPLETED, FAILED, RUNNING, CUT, PENDING)
_SHOWN = 20


def duration(seconds: float) -> str:
    """A length of time: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def remaining(jobs: Sequence[Job], processes: int) -> float | None:
    """Seconds the open jobs will take: their number times the median of the completed ones, over the processes.

    The first job of a process also pays for its imports, which a mean would carry on. What a job spent on a teacher
    that the others share does not count.
    """
    took = [job.seconds - job.waited for job in jobs if job.status == COMPLETED and job.seconds is not None]
    open_jobs = sum(job.state in (PENDING, RUNNING, CUT) for job in jobs)
    if not took:
        return None
    return open_jobs * statistics.median(took) / max(1, min(processes, open_jobs))


def _named(job: Job, keys: Sequence[str]) -> str:
    given = values_of(job)
    named = " ".join(f"{key}={given[key]}" for key in keys if key in given)
    return f" ({named})" if named else ""


def _figures(job: Job, metric: str) -> str:
    value = getattr(job, metric)
    return "no figure" if value is None else f"{metric.replace('_', ' ')} {value:.4f}"


def told(folder: Path, job: Job, jobs: Sequence[Job]) -> str:
    """One line about a job that ended, also put into `sweep.log` of the sweep's folder.

    Args:
        folder: the sweep's.
        job: the one that ended.
        jobs: all, as they are now.
    """
    keys, metric = swept_keys(jobs), default_metric(jobs)
    done = sum(other.status in (COMPLETED, FAILED) for other in jobs)
    outcome = _figures(job, metric) if job.status == COMPLETED else f"{job.status}: {job.error or 'interrupted'}"
    took = f" in {duration(job.seconds)}" if job.seconds is not None else ""
    parts = [f"job {job.job}{_named(job, keys)}: {outcome}{took}", f"{done} of {len(jobs)} done"]
    left = remaining(jobs, int(read_sweep(folder).get("processes", 1)))
    if left:
        parts.append(f"{duration(left)} to go")
    known = [other for other in jobs if other.status == COMPLETED and getattr(other, metric) is not None]
    if known:
        leader = max(known, key=lambda other: float(getattr(other, metric)))
        parts.append(f"best so far: job {leader.job}, {_figures(leader, metric)}")
    line = "; ".join(parts)
    # appended in one call, so that jobs side by side do not mix their lines
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(f"{now()} [{os.getpid()}] {line}\n")
    return line


def report(folder: Path, jobs: Sequence[Job], metric: str | None = None) -> str:
    """A sweep in some lines: counts, the best settings with their ties, what each key matters, failures.

    Args:
        folder: the sweep's.
        jobs: its jobs.
        metric: one of `summary.METRICS`; None: the first that there is.

    Raises:
        UsageError: no such metric.
    """
    metric = check_metric(metric) if metric else default_metric(jobs)
    states = [job.state for job in jobs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _ORDER if state in states)
    lines = [f"{folder}: {len(jobs)} jobs: {counts}"]
    left = remaining(jobs, int(read_sweep(folder).get("processes", 1)))
    if left and RUNNING in states:
        lines.append(f"about {duration(left)} to go")
    lines += _settings_lines(jobs, metric)
    shares = {key: share for key, share in importance(jobs, metric).items() if share is not None}
    if shares:
        lines += ["", f"Share of the variance of {metric.replace('_', ' ')} between a key's values (η²)"]
        width = max(map(len, shares))
        lines += [f"  {key:<{width}}  {share:.1%}" for key, share in shares.items()]
    failed = [job for job in jobs if job.state in (FAILED, CUT)]
    if failed:
        keys = swept_keys(jobs)
        lines += ["", "Not completed"]
        lines += [f"  job {job.job}{_named(job, keys)}: {job.error or job.state}" for job in failed]
    return "\n".join(lines)


def trials_report(folder: Path) -> str:
    """A search in some lines: its trials by state, and each trial's values and figures, the front marked.

    Args:
        folder: the search's, which holds `trials.csv`.

    Raises:
        OSError: the file cannot be read.
    """
    with open(folder / TRIALS, encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    try:
        with open(folder / FRONT, encoding="utf-8", newline="") as file:
            front = {trial["trial"] for trial in csv.DictReader(file)}
    except OSError:
        front = set()
    states = [trial["state"] for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"{folder}: {len(trials)} trials" + (f": {counts}" if counts else "")]
    kept = [key for key in (trials[0] if trials else []) if key != "error" and any(trial[key] for trial in trials)]
    rows = [["", *kept]]
    rows += [["front" if trial["trial"] in front else "", *(_short(trial[key]) for key in kept)] for trial in trials]
    hidden = rows[_SHOWN + 1 :]
    lines += ["", *_aligned(rows[: _SHOWN + 1])] if trials else []
    lines += [f"... and {len(hidden)} more: {folder / TRIALS}"] if hidden else []
    lines += [f"trial {trial['trial']}: {trial['error']}" for trial in trials if trial.get("error")]
    return "\n".join(lines)


def _short(text: str) -> str:
    try:
        return text if text.isdecimal() else f"{float(text):.4g}"
    except ValueError:
        return text


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _settings_lines(jobs: Sequence[Job], metric: str) -> list[str]:
    groups = settings(jobs)
    leading, ties = best(groups, metric)
    known = [(mean, group) for group in groups if (mean := group.mean(metric)) is not None]
    ranked = [group for _, group in sorted(known, key=lambda pair: -pair[0])]
    if not ranked:
        return []
    keys = list(ranked[0].values)
    table = [["", metric.replace("_", " "), "n", *keys, "jobs"]]
    for group in ranked[:_SHOWN]:
        spread = group.std(metric)
        # seeds of one figure, on a small test set, do not tell how far they spread
        figure = f"{group.mean(metric):.4f}" + (f" ± {spread:.2g}" if spread else "")
        place = "best" if group in leading else "tie" if group in ties else ""
        numbers = " ".join(str(job.job) for job in group.jobs)
        table.append([place, figure, str(len(group.figures(metric))), *group.values.values(), numbers])
    hidden = len(ranked) - _SHOWN
    return ["", *_aligned(table), *([f"... and {hidden} more"] if hidden > 0 else [])]
