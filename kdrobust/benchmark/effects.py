"""What one key of a block's grid does on average over everything else that the block varies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from kdrobust.benchmark.rows import Row, share
from kdrobust.benchmark.statistics import Difference, corrected, paired_difference
from kdrobust.benchmark.suite import Block

#: A method and the point of the grid without one key.
_Rest = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The main effect of a value of a grid's key on robust accuracy.

    Attributes:
        key: of the grid.
        value: of the key.
        first: the key's first value, which the other is compared with.
        settings: how many methods and other points of the grid it is a mean over.
        difference: over seeds, of the means over those settings; corrected among all effects of the same student.
    """

    key: str
    value: str
    first: str
    settings: int
    difference: Difference


def main_effects(block: Block, rows: Sequence[Row]) -> list[Effect]:
    """Main effects of a block's grid on one student.

    `d_s(v) = mean over settings of (robust_s(v) - robust_s(first))` for each seed s, with Student's t over seeds and
    Holm's correction among all of them: a seed is one observation, however many settings it was trained with.

    Args:
        block: whose grid it is.
        rows: of one student.

    Returns:
        One a key and value but the first; none for a key beside which nothing varies, nor for a value that not two
        seeds were trained with in all settings.
    """
    found = []
    for key, values in block.grid.items():
        known = {value: _by_seed(rows, key, value) for value in values}
        settings = _settings(block, key)
        if len(settings) < 2:
            continue
        for value in values[1:]:
            # a seed that lacks a setting would compare unlike means
            difference = paired_difference(_means(known[value], settings), _means(known[values[0]], settings))
            if difference is not None and difference.p is not None:
                found.append(
                    Effect(key=key, value=value, first=values[0], settings=len(settings), difference=difference)
                )
    tested = corrected([effect.difference for effect in found])
    return [replace(effect, difference=each) for effect, each in zip(found, tested, strict=True) if each is not None]


def _settings(block: Block, key: str) -> list[_Rest]:
    """Everything a block varies besides one key of its grid."""
    others = [[(other, value) for value in values] for other, values in block.grid.items() if other != key]
    return [(method, rest) for method in block.methods for rest in itertools.product(*others)]


def _by_seed(rows: Sequence[Row], key: str, value: str) -> dict[_Rest, dict[int, float]]:
    found = {}
    for row in rows:
        if row.values[key] == value:
            rest = tuple(pair for pair in row.values.items() if pair[0] != key)
            found[row.method, rest] = {record["seed"]: share(record, "robust") for record in row.records}
    return found


def _means(known: Mapping[_Rest, Mapping[int, float]], settings: Sequence[_Rest]) -> dict[int, float]:
    """Means over all settings, by the seeds that have all of them."""
    if any(setting not in known for setting in settings):
        return {}
    seeds = set.intersection(*(set(known[setting]) for setting in settings))
    return {seed: fmean(known[setting][seed] for setting in settings) for seed in sorted(seeds)}
