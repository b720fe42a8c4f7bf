"""From a suite to its jobs: one training and its evaluation each."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from kdrobust import listing
from kdrobust.benchmark.suite import Block, Overrides, Suite, Tuning, option_of, student_passes
from kdrobust.config.suggest import available, did_you_mean
from kdrobust.errors import UsageError

#: Roots of the overrides of a training that its evaluation takes over.
_SHARED = ("data", "threat", "threads", "trusted_modules")
_passes_a_step = cache(student_passes)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One student, trained and evaluated.

    Attributes:
        block: the block's name.
        method: the entry's name.
        student: the student's name.
        seed: of the training.
        values: the point of the block's grid, key to value.
        epochs: of the training.
        passes: student passes a training sample in all, attack included; None where the method's header tells none.
        training: overrides of stage `distill`.
        evaluation: overrides of stage `evaluate`.
        tune: how hyper-parameters are found first; None: they are the method's own.
        tuned: what another seed's record says that this search has found; None: it is made, where `tune` is one.
    """

    block: str
    method: str
    student: str
    seed: int
    values: Mapping[str, str]
    epochs: int
    passes: int | None
    training: Overrides
    evaluation: Overrides
    tune: Tuning | None = None
    tuned: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """Tells jobs that ask for the same thing, whatever block they stand in: 16 hex digits."""
        tune = self.tune and [self.tune.trials, self.tune.seed, self.tune.spaces[self.method]]
        asked = [self.training, self.evaluation, tune]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    @property
    def search(self) -> Overrides:
        """Equal for jobs of a block that share a search: those that differ in nothing but the seed."""
        return self.method, self.student, *(text for text in self.training if text != f"seed={self.seed}")

    @property
    def label(self) -> str:
        """For a line about it."""
        values = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in self.values.items())
        return f"{self.block}: {self.method}{values} {self.student} seed {self.seed}"


def chosen_blocks(suite: Suite, names: Sequence[str] = ()) -> list[Block]:
    """The blocks asked for, in the order asked; all of them without names.

    Raises:
        UsageError: no such block.
    """
    for name in names:
        if name not in suite.blocks:
            close = did_you_mean(name, suite.blocks)
            raise UsageError(
                f"blocks={name}: no block of suite {suite.name}{close}; there are {available(suite.blocks)}"
            )
    return [suite.blocks[name] for name in names or suite.blocks]


def chosen_methods(suite: Suite, block: Block, names: Sequence[str] = ()) -> Block:
    """A block with some methods only: its own as the suite has them, any other option of group `method` as it is.

    Raises:
        UsageError: no such method.
    """
    if not names:
        return block
    options = [option.name for option in listing.options("method")]
    known = {**suite.methods, **block.methods}
    for name in names:
        if name not in known and name not in options:
            close = did_you_mean(name, [*known, *options])
            raise UsageError(f"methods={name}: no method of suite {suite.name}, nor of conf/method{close}")
    return replace(block, methods={name: known.get(name, ()) for name in names})


def jobs_of(suite: Suite, block: Block) -> list[Job]:
    """A block's jobs, every combination of one seed before the next: a block cut short compares all methods.

    Raises:
        UsageError: a method whose header tells no cost where costs are matched, or without a space where it is tuned.
    """
    points = [dict(zip(block.grid, values, strict=True)) for values in itertools.product(*block.grid.values())]
    return [
        _job(suite, block, method, student, seed, point)
        for seed in block.seeds
        for point in points
        for student in block.students
        for method in block.methods
    ]


def _job(suite: Suite, block: Block, method: str, student: str, seed: int, point: Mapping[str, str]) -> Job:
    own = block.methods[method]
    option = option_of(method, own)
    changed = (*suite.settings, *own, *block.settings, *(f"{key}={value}" for key, value in point.items()))
    cost = _passes_a_step(option, changed)
    if block.passes is not None and cost is None:
        raise UsageError(f"blocks.{block.name}.passes: the header of conf/method/{option}.yaml tells no `Cost:`")
    if block.tune is not None and method not in block.tune.spaces:
        raise UsageError(f"suite={suite.name} blocks.{block.name}.tune.spaces.{method}: is missing: what is searched?")
    epochs = suite.epochs if block.passes is None or cost is None else max(1, round(block.passes / cost))
    training = (
        *suite.settings,
        f"epochs={epochs}",
        *suite.students[student],
        f"method={option}",
        *(text for text in own if not text.startswith("method=")),
        *block.settings,
        *(f"{key}={value}" for key, value in point.items()),
        f"seed={seed}",
    )
    shared = tuple(text for text in training if text.lstrip("+~").partition("=")[0].split(".")[0] in _SHARED)
    return Job(
        block=block.name,
        method=method,
        student=student,
        seed=seed,
        values=dict(point),
        epochs=epochs,
        passes=None if cost is None else round(epochs * cost),
        training=training,
        evaluation=(*shared, *(suite.evaluation if block.evaluation is None else block.evaluation)),
        tune=block.tune,
    )


def each_once(jobs: Sequence[Job]) -> list[Job]:
    """The fewest first jobs that between them have every method, student and value of a grid."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for job in jobs:
        parts = {("method", job.method), ("student", job.student), *job.values.items()}
        if parts - seen:
            seen |= parts
            kept.append(job)
    return kept


def with_searches(jobs: Sequence[Job], records: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """A block's jobs with what its records say that their searches have found: none is made twice.

    Args:
        jobs: of one block.
        records: digest to record.
    """
    found = {job.search: records[job.digest]["tuned"] for job in jobs if job.tune and job.digest in records}
    return [replace(job, tuned=found.get(job.search)) for job in jobs]


def trainings(jobs: Sequence[Job], done: Container[str] = ()) -> dict[str, int]:
    """How many trainings each of some jobs is: one, and its search's where no job before it has made that.

    Seeds share a search: the first of them makes it, the others find its trainings finished.

    Args:
        jobs: in the order in which they are done.
        done: digests of those that need not be done again.

    Returns:
        Digest to number, without those that are done.
    """
    searched = {job.search for job in jobs if job.digest in done}
    found = {}
    for job in jobs:
        if job.digest not in done:
            found[job.digest] = 1 + (job.tune.trials if job.tune and job.search not in searched else 0)
            searched.add(job.search)
    return found
