"""`kdrobust benchmark suite=NAME`: plan, run in pieces, keep the records. A plan loads no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path

from kdrobust.benchmark.kept import fetch, keep
from kdrobust.benchmark.plan import Job, chosen_blocks, chosen_methods, each_once, jobs_of, trainings, with_searches
from kdrobust.benchmark.records import (
    Record,
    expected_seconds,
    identity,
    read_records,
    records_path,
    settled,
    write_records,
)
from kdrobust.benchmark.suite import Block, Suite, read_suite
from kdrobust.config.numbers import is_number
from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import KdrobustError, UsageError
from kdrobust.sweeps.progress import duration

_HELP = """kdrobust benchmark suite=NAME [plan] [key=value ...]

  Every method of a suite (conf/suite/NAME.yaml) on equal terms: trained, evaluated, recorded, a line a job in
  <results>/<suite>/<block>.json. What is recorded is not done again, what was cut goes on: give the same command again.
  Their teachers are kept in <results>/<suite>/teachers, and taken from there: whoever goes on has the same ones.

  plan             only say what would be done, and how long it should take by the records there are
  blocks=A,B       only these, in this order; without it all of them
  methods=A,B      only these of a block's methods; or others, your own, which are then measured as they are
  n_jobs=N         processes side by side, each with its share of the cores (1)
  limit_minutes=M  begin no job after M minutes
  root=FOLDER      where runs land (outputs/benchmark/<suite>)
  results=FOLDER   where records are kept (benchmarks/results)

Examples
  kdrobust benchmark suite=fashion_mnist_small plan
  kdrobust benchmark suite=fashion_mnist_small blocks=main n_jobs=2 limit_minutes=60
  kdrobust benchmark suite=tiny"""
_KEYS = ("suite", "blocks", "methods", "n_jobs", "limit_minutes", "root", "results")


class BenchmarkError(KdrobustError):
    """Some jobs failed; the others are recorded."""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    suite: str
    plan: bool = False
    blocks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    n_jobs: int = 1
    limit_minutes: float | None = None
    root: Path | None = None
    results: Path = Path("benchmarks/results")


def main(arguments: Sequence[str] = ()) -> int:
    """Plan or run a suite.

    Args:
        arguments: see `kdrobust benchmark --help`.

    Returns:
        0, also where the time limit left some jobs for the next start.

    Raises:
        UsageError: another argument, no such suite or block, or a job that cannot be composed.
        DataError: damaged records.
        BenchmarkError: some jobs failed.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    wish = _parse(arguments)
    suite = read_suite(wish.suite)
    blocks = [chosen_methods(suite, block, wish.methods) for block in chosen_blocks(suite, wish.blocks)]
    wish = replace(wish, root=wish.root or Path("outputs", "benchmark", suite.name))
    if wish.plan:
        print(told_plan(suite, blocks, wish.results, wish.n_jobs))
        return 0
    failed: list[str] = []
    until = None if wish.limit_minutes is None else time.monotonic() + 60 * wish.limit_minutes
    for block in blocks:
        failed += _run(suite, block, wish, until)
    if failed:
        raise BenchmarkError("\n".join([f"{_counted(failed, 'job')} failed:", *(f"  {line}" for line in failed)]))
    return 0


def told_plan(suite: Suite, blocks: Sequence[Block], results: Path, processes: int = 1) -> str:
    """The jobs of some blocks counted, with the time they should take.

    Args:
        suite: the suite.
        blocks: of it.
        results: where records are kept.
        processes: how many side by side.
    """
    by_block = _by_block(suite, results)
    everything = [record for records in by_block.values() for record in records]
    lines = [f"{suite.name}: {suite.summary}"]
    if not everything:
        lines.append(
            f"  {results}: holds no records of it; results= names the folder, benchmarks/results of a checkout"
        )
    for block in blocks:
        jobs = jobs_of(suite, block)
        done = settled(jobs, everything)
        left = [job for job in jobs if job.digest not in done]
        # another evaluation takes another time
        alike = [
            record
            for name, records in by_block.items()
            for record in records
            if suite.blocks[name].evaluation == block.evaluation
        ]
        number = trainings(jobs, done)
        guesses = [guess * number[job.digest] for job in left if (guess := expected_seconds(job, alike)) is not None]
        if not left:
            time_left = "nothing left to do"
        elif len(guesses) == len(left):
            time_left = f"about {duration(sum(guesses) / processes)} to go, teachers that are missing not counted"
        else:
            time_left = "no estimate: nothing of the kind is recorded yet"
        lines.append(f"  {block.name}: {len(jobs)} jobs, {len(jobs) - len(left)} recorded; {time_left}")
        lines.append(f"    {block.question}")
        grid = "".join(f" × {key.rpartition('.')[2]} {'|'.join(values)}" for key, values in block.grid.items())
        lines.append(
            f"    {_counted(block.methods, 'method')} × {_counted(block.students, 'student')}{grid} × "
            f"{_counted(block.seeds, 'seed')}: {', '.join(block.methods)}"
        )
    return "\n".join(lines)


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _all_records(suite: Suite, results: Path) -> list[Record]:
    return [record for records in _by_block(suite, results).values() for record in records]


def _by_block(suite: Suite, results: Path) -> dict[str, list[Record]]:
    return {name: read_records(records_path(results, suite.name, name)) for name in suite.blocks}


def _run(suite: Suite, block: Block, wish: _Wish, until: float | None) -> list[str]:
    """Do what is left of a block; returns a line a failed job."""
    jobs = jobs_of(suite, block)
    path = records_path(wish.results, suite.name, block.name)
    before, done = read_records(path), settled(jobs, _all_records(suite, wish.results))
    left = [job for job in with_searches(jobs, done) if job.digest not in done]
    print(f"{suite.name}, {block.name}: {len(jobs)} jobs, {len(jobs) - len(left)} recorded", flush=True)
    assert wish.root is not None
    if left:
        _check(left, wish.root)
        for name in fetch(wish.results, suite.name, wish.root):
            print(f"teacher {name}: the one kept with the records", flush=True)
    if done:
        # what another block has recorded, or an earlier state of the suite has left over
        write_records(path, suite, block, _own(jobs, done, before))
    from kdrobust.benchmark.runner import run_jobs

    failed, finished, began = [], 0, time.monotonic()
    size = trainings(jobs, done)
    owed = sum(size.values())
    for outcome in run_jobs(left, root=wish.root, processes=wish.n_jobs, until=until):
        finished += 1
        if outcome.record is None:
            failed.append(f"{outcome.job.label}: {outcome.error}")
            told = f"failed: {outcome.error}"
        else:
            done[outcome.job.digest] = outcome.record
            write_records(path, suite, block, _own(jobs, done, before))
            keep(wish.results, suite.name, wish.root, [outcome.record])
            told = _told(outcome.record)
        owed -= size[outcome.job.digest]
        rest = (time.monotonic() - began) / (sum(size.values()) - owed) * owed
        place = f"{len(jobs) - len(left) + finished} of {len(jobs)}"
        print(
            f"{outcome.job.label}: {told} in {duration(outcome.seconds)}; {place}, {duration(rest)} to go", flush=True
        )
    if finished < len(left):
        print(f"{block.name}: {len(left) - finished} jobs left; the same command goes on with them", flush=True)
    return failed


def _own(jobs: Sequence[Job], done: Mapping[str, Record], before: Sequence[Record]) -> list[Record]:
    """A block's records: those of its jobs under the names it gives them, and those of methods it was not asked for."""
    asked = {job.method for job in jobs}
    others = [record for record in before if record["method"] not in asked]
    return others + [{**done[job.digest], **identity(job)} for job in jobs if job.digest in done]


def _check(jobs: Sequence[Job], root: Path) -> None:
    from kdrobust.benchmark.work import check_job

    for job in each_once(jobs):
        try:
            check_job(job, root)
        except UsageError as error:
            raise UsageError(f"{job.label}: {error}") from None


def _told(record: Record) -> str:
    n = record["n"]
    mark = " †" if record["unreliable"] else ""
    return f"clean {record['clean'] / n:.1%}, robust {record['robust'] / n:.1%}{mark} of {n}"


def _parse(arguments: Sequence[str]) -> _Wish:
    given: dict[str, str] = {}
    plan = False
    for word in arguments:
        key, equals, value = word.partition("=")
        if word == "plan":
            plan = True
        elif not equals or key not in _KEYS:
            close = did_you_mean(key, (*_KEYS, "plan")) or f"; there are plan, {'=, '.join(_KEYS)}="
            raise UsageError(f"benchmark {word}: no such argument{close}")
        elif not value:
            raise UsageError(f"benchmark {key}=: a value is missing")
        else:
            given[key] = value
    if "suite" not in given:
        raise UsageError("benchmark: which suite? e.g. kdrobust benchmark suite=tiny; see kdrobust list suite")
    jobs, minutes = given.get("n_jobs", "1"), given.get("limit_minutes")
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UsageError(f"benchmark n_jobs={jobs}: expected an integer >= 1")
    if minutes is not None and not (is_number(minutes) and float(minutes) > 0):
        raise UsageError(f"benchmark limit_minutes={minutes}: expected a number > 0")
    return _Wish(
        suite=given["suite"],
        plan=plan,
        blocks=_names(given.get("blocks", "")),
        methods=_names(given.get("methods", "")),
        n_jobs=int(jobs),
        limit_minutes=None if minutes is None else float(minutes),
        root=Path(given["root"]) if "root" in given else None,
        results=Path(given.get("results", "benchmarks/results")),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.strip("[]").split(",") if name)
