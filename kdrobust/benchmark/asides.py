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
    pairs = zip(rows, _plain(rows, main), strict=True)
    return corrected([paired_difference(row.by_seed, plain) for row, plain in pairs])


def untuned(rows: Sequence[Row], main: Sequence[Record]) -> list[float | None]:
    """Robust accuracy of the same methods and seeds with the suite's own settings, one a row; see `tuning_gains`."""
    return [fmean(plain.values()) if plain else None for plain in _plain(rows, main)]


def _plain(rows: Sequence[Row], main: Sequence[Record]) -> list[dict[int, float]]:
    """What each row's searched seeds came to in the main block."""
    found = {_same(record): share(record, "robust") for record in main}
    return [
        {record["seed"]: found[_same(record)] for record in row.records if "tuned" in record and _same(record) in found}
        for row in rows
    ]


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
    gaps = [(official - ours) / n for official, ours, n in counts]
    pairs = list(itertools.combinations(counts, 2))
    # where one attack sees no difference the other contradicts nobody
    turned = sum((one[0] - two[0]) * (one[1] - two[1]) < 0 for one, two in pairs)
    order = f"; of {len(pairs)} pairs of students {turned} stand the other way round" if pairs else ""
    return (
        f"Beside our cascade on the same samples the official AutoAttack leaves {points(min(gaps))} to "
        f"{points(max(gaps))} points ({points(fmean(gaps))} on average){order}."
    )
