"""What a block was made for beside ranking its rows: what a search gains, what the official AutoAttack takes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean

from kdrobust.benchmark.records import Record
from kdrobust.benchmark.rows import Row, share
from kdrobust.benchmark.statistics import Difference, corrected, paired_difference
from kdrobust.benchmark.tables import named, points, told_difference

#: The official attack, and this project's that stands for it where there is no time.
_OFFICIAL, _OURS = "autoattack", "cascade"


def tuning_gains(rows: Sequence[Row], main: Sequence[Record]) -> list[Difference | None]:
    """Robust accuracy as tuned minus the same method's with the suite's own settings, paired by seed.

    Args:
        rows: of one student, of a block that is tuned.
        main: the main block's records: same seeds, epochs and test samples.

    Returns:
        One a row, corrected among them; None where no search was made or no seed is in both.
    """
    plain = {_same(record): share(record, "robust") for record in main}
    gains = list[Difference | None]()
    for row in rows:
        mine = {record["seed"]: share(record, "robust") for record in row.records if "tuned" in record}
        theirs = {record["seed"]: plain[_same(record)] for record in row.records if _same(record) in plain}
        gains.append(paired_difference(mine, theirs))
    return corrected(gains)


def untuned(rows: Sequence[Row], main: Sequence[Record]) -> list[float | None]:
    """Robust accuracy of the same methods and seeds with the suite's own settings, one a row; see `tuning_gains`."""
    plain = {_same(record): share(record, "robust") for record in main}
    return [row.mean(lambda record: plain.get(_same(record)) if "tuned" in record else None) for row in rows]


def _same(record: Record) -> object:
    """What a tuned record shares with its counterpart in the main block."""
    return record["method"], record["student"], record["seed"]


def told_gains(rows: Sequence[Row], main: Sequence[Record]) -> str:
    """A sentence on `tuning_gains`, the largest first; empty where there are none."""
    found = [(row, gain) for row, gain in zip(rows, tuning_gains(rows, main), strict=True) if gain is not None]
    ranked = sorted(found, key=lambda pair: -pair[1].value)
    told = "; ".join(f"{named(row)} {told_difference(gain)}" for row, gain in ranked)
    return f"Against the suite's own settings (block `main`) tuning changes: {told}." if told else ""


def told_official(rows: Sequence[Row]) -> str:
    """A sentence on the official AutoAttack beside this project's cascade on the same samples; empty without both."""
    counts = [
        (record["attacks"][_OFFICIAL], record["attacks"][_OURS], record["n"])
        for row in rows
        for record in row.records
        if {_OFFICIAL, _OURS} <= record["attacks"].keys()
    ]
    if not counts:
        return ""
    gaps = sorted((official - ours) / n for official, ours, n in counts)
    pairs = list(itertools.combinations(counts, 2))
    # where one attack sees no difference the other contradicts nobody
    turned = sum((one[0] - two[0]) * (one[1] - two[1]) < 0 for one, two in pairs)
    order = f"; of {len(pairs)} pairs of students {turned} stand the other way round" if pairs else ""
    return (
        f"Beside our cascade on the same samples the official AutoAttack leaves {points(gaps[0])} to "
        f"{points(gaps[-1])} points ({points(fmean(gaps))} on average){order}."
    )
