"""The benchmark's answers in short: a line a question, and what students keep of their teacher a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from kdrobust.benchmark.asides import told_gains, told_official
from kdrobust.benchmark.effects import main_effects, method_effects
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import Record, settled
from kdrobust.benchmark.rows import Row, rows_of
from kdrobust.benchmark.suite import Block, Suite
from kdrobust.benchmark.tables import kept, named, percent, points, teacher_of, told_difference
from kdrobust.report import threat_text
from kdrobust.report.markdown import markdown_table

#: What is told beside robust accuracy.
_OTHERS = {"clean accuracy": "clean", "W-Robust": "w_robust"}


def in_short(suite: Suite, found: Mapping[str, Sequence[Record]]) -> str:
    """Every question with what its records say of each student, as a Markdown list.

    Args:
        suite: the suite.
        found: the records of each of its blocks.
    """
    return "\n".join(
        f"- **{block.question}**{_answer(suite, block, found[name], found.get('main', ()))}"
        for name, block in suite.blocks.items()
    )


def _answer(suite: Suite, block: Block, records: Sequence[Record], main: Sequence[Record]) -> str:
    if not records:
        return " Not yet measured."
    rows = rows_of(suite, block, records)
    told = [
        f"\n  - `{student}`: {verdict(block, mine, main)}"
        for student in suite.students
        if (mine := [row for row in rows if row.student == student])
    ]
    return "".join([_incomplete(suite, block, records), *told])


def _incomplete(suite: Suite, block: Block, records: Sequence[Record]) -> str:
    told = measured(suite, block, records)
    return "" if told.complete else f" *{told.text}.*"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How much of a block has records.

    Attributes:
        complete: whether all of it has.
        text: how many trainings, and which methods are not there yet with all of theirs.
    """

    complete: bool
    text: str


def measured(suite: Suite, block: Block, records: Sequence[Record]) -> Measured:
    """How much of a block has records, for readers of what it says so far.

    Args:
        suite: the suite.
        block: of it.
        records: the block's.
    """
    jobs = jobs_of(suite, block)
    done = settled(jobs, records)
    left = list(dict.fromkeys(job.method for job in jobs if job.digest not in done))
    text = f"{sum(job.digest in done for job in jobs)} of {len(jobs)} trainings measured"
    if done and left:
        text += (
            f"; not all of {', '.join(f'`{name}`' for name in left)}, and rows of fewer seeds than others may mislead"
        )
    return Measured(complete=not left, text=text)


def verdict(block: Block, rows: Sequence[Row], main: Sequence[Record] = ()) -> str:
    """What one student's rows say, in a few sentences; of several threats each by itself.

    Args:
        block: the rows' block.
        rows: of one student, the most robust first.
        main: the main block's records, which a tuned block is compared with.
    """
    threats: dict[str, list[Row]] = {}
    for row in rows:
        threats.setdefault(threat_text(row.records[0]["threat"]), []).append(row)
    told = [f"At {threat}: {_compared(mine)}" for threat, mine in threats.items()]
    compared = told if len(told) > 1 else [_compared(rows)]
    return " ".join(filter(None, [*compared, _effects(block, rows), told_gains(rows, main), told_official(rows)]))


def _compared(rows: Sequence[Row]) -> str:
    first = rows[0]
    best = f"Most robust: {named(first)} ({percent(first.robust.value)})"
    compared = [row for row in rows if row.difference is not None]
    if not compared:
        return f"{best}. No row has a counterpart to be compared with yet."
    tested = [row for row in compared if row.difference and row.difference.p is not None]
    if not tested:
        return f"{best}. One seed: no difference can be told from noise."
    if first in tested:
        best += f", {told_difference(first.difference)} from `{first.against}`"
    against = " or ".join(sorted({f"`{row.against}`" for row in tested}))
    robust = _beyond(tested, "robust")
    if robust:
        told = [f"More robust than {against} beyond seed noise: {_list(robust, 1)}; less: {_list(robust, -1)}"]
        told.append(_undecided(tested, "it"))
    else:
        told = [_undecided(tested, against)]
    return " ".join([f"{best}.", f"{'; '.join(told)}.", *_others(tested)])


def _others(tested: Sequence[Row]) -> list[str]:
    """What differs beyond seed noise in the other figures; those in which nothing does are named together."""
    found = {title: _beyond(tested, figure) for title, figure in _OTHERS.items()}
    told = [
        f"{title[0].upper()}{title[1:]} above its: {_list(differing, 1)}; below: {_list(differing, -1)}."
        for title, differing in found.items()
        if differing
    ]
    alike = [title for title, differing in found.items() if not differing]
    return [*told, f"No difference in {' or '.join(alike)} is beyond seed noise."] if alike else told


def _effects(block: Block, rows: Sequence[Row]) -> str:
    """What a grid does on average: to methods that are compared with a baseline, or else each of its keys by itself."""
    against = next((row.against for row in rows if row.against in block.methods), None)
    told: dict[str, list[str]] = {}
    for effect in main_effects(block, rows) if against is None else method_effects(block, rows, against):
        key, value = effect.key.rpartition(".")[2], effect.value
        if effect.method:
            title = f"Change of that from {key} {effect.first} to {value}"
            value = f"`{effect.method}`"
        elif against is None:
            title = f"`{key}` on average over {effect.settings} settings of the rest, from {effect.first}"
        else:
            title, value = f"On average over {effect.settings} settings, from `{against}`", f"`{value}`"
        told.setdefault(title, []).append(f"{value}: {told_difference(effect.difference)}")
    return " ".join(f"{title}: {'; '.join(values)}." for title, values in told.items())


def _undecided(tested: Sequence[Row], against: str) -> str:
    """How many rows are not told apart from what they are compared with, and how far apart they may be all the same."""
    open_ = [row.difference for row in tested if row.difference and not row.difference.beyond_noise]
    told = f"{len(open_)} of {len(tested)} cannot be told apart from {against}"
    ends = [end for each in open_ for end in (each.low, each.high) if end is not None]
    return f"{told} (intervals from {points(min(ends))} to {points(max(ends))})" if ends else told


def _beyond(rows: Sequence[Row], figure: str) -> list[tuple[Row, float]]:
    pairs = ((row, row.differences[figure]) for row in rows)
    return [(row, difference.value) for row, difference in pairs if difference and difference.beyond_noise]


def _list(found: Sequence[tuple[Row, float]], sign: int) -> str:
    """The rows whose difference has a sign, the largest first."""
    mine = sorted((pair for pair in found if pair[1] * sign > 0), key=lambda pair: -pair[1])
    return ", ".join(f"{named(row)} ({points(value)})" for row, value in mine) or "none"


def keeping(suite: Suite, records: Sequence[Record]) -> str:
    """What the students of a robust teacher keep of it, by student: the method that keeps most, and the baseline.

    *kept* is the share of the samples on which the teacher stands every attack that the student stands too, told only
    of those who had it as their teacher; *per parameter* the student's robust accuracy a parameter over the teacher's.

    Args:
        suite: the suite.
        records: of its main block.

    Returns:
        A Markdown table; empty where no record has a robust teacher.
    """
    lines = [["student", "of the teacher's parameters", "method", "kept", "of its robust accuracy", "per parameter"]]
    for student in suite.students:
        methods: dict[str, list[Record]] = {}
        for record in records:
            if record["student"] == student and kept(record) is not None:
                methods.setdefault(record["method"], []).append(record)
        if not methods:
            continue
        best = max(methods, key=lambda method: _mean(methods[method], kept))
        theirs = teacher_of(methods[best][0])
        assert theirs is not None
        shown = [(f"`{best}`", percent(_mean(methods[best], kept)), methods[best])]
        untaught = [
            r for r in records if r["student"] == student and r["method"] == suite.baseline and not r["teachers"]
        ]
        if untaught:
            shown.append((f"`{suite.baseline}` (no teacher)", "", untaught))
        for name, share_kept, mine in shown:
            # student and teacher are measured on the same samples
            size = mine[0]["parameters"] / theirs["parameters"]
            robust = fmean(record["robust"] / theirs["robust"] for record in mine)
            lines.append(
                [f"`{student}`", f"{100 * size:.1f} %", name, share_kept, percent(robust), f"{robust / size:.1f} ×"]
            )
    return markdown_table(lines) if len(lines) > 1 else ""


def _mean(records: Sequence[Record], figure: Callable[[Record], float | None]) -> float:
    return fmean(value for record in records if (value := figure(record)) is not None)
