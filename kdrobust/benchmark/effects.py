"""What one key of a block's grid, or one of its methods, does on average over everything else that the block varies."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kdrobust.benchmark.rows import Row
from kdrobust.benchmark.statistics import Difference, corrected, paired_difference
from kdrobust.benchmark.suite import Block

#: A point of the grid, and a method trained there.
_Point = frozenset[tuple[str, str]]
_Cell = tuple[str, _Point]
#: Robust accuracy, or a difference of two, by seed.
_Seeds = Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An effect on robust accuracy, averaged over settings.

    Attributes:
        key: of the grid; `method` where methods are compared on average over it.
        value: of the key.
        first: what it is compared with: the key's first value, or the baseline.
        settings: how many methods and points of the grid it is a mean over.
        difference: over seeds, of the means over those settings; corrected among all effects of the same student.
        method: where it is not robust accuracy that changes with the key but this method's difference from the
            baseline; empty else.
    """

    key: str
    value: str
    first: str
    settings: int
    difference: Difference
    method: str = ""


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
    cells, found = _cells(rows), list[Effect]()
    for key, values in block.grid.items():
        settings = {value: _settings(block, block.methods, key, value) for value in values}
        size = len(settings[values[0]])
        if size < 2:
            continue
        for value in values[1:]:
            found += _effect(
                _means(cells, settings[value]),
                _means(cells, settings[values[0]]),
                key=key,
                value=value,
                first=values[0],
                settings=size,
            )
    return _tested(found)


def method_effects(block: Block, rows: Sequence[Row], baseline: str) -> list[Effect]:
    """Methods against a baseline over a block's grid, for one student: on average, and from end to end of each key.

    With `g_s(m, v) = robust_s(m, v) - robust_s(baseline, v)` at a point v of the grid: its mean over the grid, and the
    mean of `g_s` where a key has its last value less that where it has its first. Robust accuracies under different
    threats may be averaged so, as a difference is taken at every point first. Tests are those of `main_effects`.

    Args:
        block: whose grid it is.
        rows: of one student.
        baseline: one of the block's methods.

    Returns:
        For each other method its average, then its changes; none where the grid has one point, nor where not two seeds
        were trained at all of them.
    """
    cells, points, found = _cells(rows), _points(block), list[Effect]()
    gaps = {cell: _gap(cells[cell], cells.get((baseline, cell[1]), {})) for cell in cells}
    for method in block.methods:
        if method == baseline or len(points) < 2:
            continue
        mine, theirs = ([(name, point) for point in points] for name in (method, baseline))
        found += _effect(
            _means(cells, mine), _means(cells, theirs), key="method", value=method, first=baseline, settings=len(points)
        )
        for key, values in block.grid.items():
            first, last = (_settings(block, [method], key, value) for value in (values[0], values[-1]))
            if first != last:
                found += _effect(
                    _means(gaps, last),
                    _means(gaps, first),
                    key=key,
                    value=values[-1],
                    first=values[0],
                    settings=len(last),
                    method=method,
                )
    return _tested(found)


def _points(block: Block) -> list[_Point]:
    named = [[(key, value) for value in values] for key, values in block.grid.items()]
    return [frozenset(point) for point in itertools.product(*named)]


def _settings(block: Block, methods: Iterable[str], key: str, value: str) -> list[_Cell]:
    """All of some methods and points of a grid at which one of its keys has a value."""
    return [(method, point) for method in methods for point in _points(block) if (key, value) in point]


def _cells(rows: Sequence[Row]) -> dict[_Cell, _Seeds]:
    return {(row.method, frozenset(row.values.items())): row.by_seed for row in rows}


def _gap(mine: _Seeds, theirs: _Seeds) -> _Seeds:
    return {seed: mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())}


def _means(cells: Mapping[_Cell, _Seeds], settings: Sequence[_Cell]) -> _Seeds:
    """Means over all settings, by the seeds that have all of them: one that lacks a setting would compare unlike."""
    if any(setting not in cells for setting in settings):
        return {}
    seeds = set.intersection(*(set(cells[setting]) for setting in settings))
    return {seed: fmean(cells[setting][seed] for setting in settings) for seed in sorted(seeds)}


def _effect(mine: _Seeds, theirs: _Seeds, **told: Any) -> list[Effect]:
    """An effect over the seeds that both have; none where there are not two."""
    difference = paired_difference(mine, theirs)
    return [] if difference is None or difference.p is None else [Effect(difference=difference, **told)]


def _tested(found: Sequence[Effect]) -> list[Effect]:
    """Corrected for how many there are."""
    tested = corrected([effect.difference for effect in found])
    return [replace(effect, difference=each) for effect, each in zip(found, tested, strict=True) if each is not None]
