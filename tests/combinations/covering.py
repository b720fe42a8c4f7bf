"""A small set of combinations in which every pair of options that goes together occurs. Pure: no file, no process.

Greedy, after Cohen, Dalal, Fredman & Patton, "The AETG System", IEEE Transactions on Software Engineering 23(7), 1997:
each combination is begun from a pair that is still missing and filled by the options that bring most missing pairs.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Two factors of more options than this together are paired by kinds of options, not by every option with every other.
MOST = 48
#: A filling that has tried so many options is no filling but a fault of the rules.
_PATIENCE = 20_000
_TRIES = 3
#: (factor, option or kind of options)
Label = tuple[str, str]
Pair = tuple[Label, Label]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One value of a factor.

    Attributes:
        name: as it is listed.
        lines: what it adds to the command line.
        kind: options of one kind take the same paths through the program and stand for each other in large pairings.
        facts: what rules ask about it.
    """

    name: str
    lines: tuple[str, ...] = ()
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, str]:
        return self.name, f"kind {self.kind or self.name}"


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What combinations differ in.

    Attributes:
        name: as it is listed.
        options: its values.
        left_out: option of conf/ that cannot run here, to the reason.
        coarse: whether its options are paired with others by kinds only, however few they are.
    """

    name: str
    options: tuple[Option, ...]
    coarse: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    def labels(self, at: int) -> list[str]:
        return sorted({option.labels[at] for option in self.options})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What does not go together, and why.

    Attributes:
        why: the reason.
        factors: the factors it looks at.
        forbids: decides on their options, in the order of `factors`.
        refused: by what the program refuses it before training: its `config`, or the `data` and files it names; empty
            where it is left out for nothing would be tested by it.
    """

    why: str
    factors: tuple[str, ...]
    forbids: Callable[..., bool]
    refused: str = "config"


@dataclass(frozen=True, kw_only=True)
class Covering:
    """The outcome.

    Attributes:
        combinations: factor to option, one mapping a run.
        covered: the pairs that occur.
        excluded: pairs that cannot occur, each with the reason of the rule.
    """

    combinations: list[dict[str, Option]]
    covered: frozenset[Pair]
    excluded: Mapping[Pair, str]


def granularities(one: Factor, other: Factor, most: int = MOST) -> list[tuple[int, int]]:
    """How finely two factors are paired: (0, 0) option by option, (0, 1) options of the first by kinds, and so on."""
    counts = [[len(factor.labels(at)) for at in (0, 1)] for factor in (one, other)]
    if one.coarse or other.coarse:
        return [(1, 1)]
    if counts[0][0] * counts[1][0] <= most:
        return [(0, 0)]
    mixed = [(a, b) for a, b in ((0, 1), (1, 0)) if counts[0][a] * counts[1][b] <= most]
    return mixed or [(1, 1)]


def pairs_of(chosen: Mapping[str, Option], factors: Sequence[Factor], most: int = MOST) -> Iterator[Pair]:
    """The pairs that a combination, or part of one, brings; an option by itself counts as a pair with itself."""
    for factor in factors:
        if factor.name in chosen:
            label = (factor.name, chosen[factor.name].name)
            yield label, label
    for one, other in itertools.combinations(factors, 2):
        if one.name in chosen and other.name in chosen:
            a, b = chosen[one.name], chosen[other.name]
            for at, by in granularities(one, other, most):
                yield (one.name, a.labels[at]), (other.name, b.labels[by])


def required(factors: Sequence[Factor], most: int = MOST) -> dict[Pair, list[tuple[Option, ...]]]:
    """Every pair that is asked for, with the options that bring it."""
    wanted: dict[Pair, list[tuple[Option, ...]]] = {}
    for factor in factors:
        for option in factor.options:
            label = (factor.name, option.name)
            wanted[label, label] = [(option,)]
    for one, other in itertools.combinations(factors, 2):
        for at, by in granularities(one, other, most):
            for a, b in itertools.product(one.options, other.options):
                pair = (one.name, a.labels[at]), (other.name, b.labels[by])
                wanted.setdefault(pair, []).append((a, b))
    return wanted


class _Search:
    def __init__(self, factors: Sequence[Factor], rules: Sequence[Rule], seed: int, most: int) -> None:
        self.factors, self.most = list(factors), most
        self.draw = random.Random(seed)
        self.used: Counter[Label] = Counter()
        self.rules: dict[str, list[Rule]] = {factor.name: [] for factor in factors}
        for rule in rules:
            for name in rule.factors:
                self.rules[name].append(rule)
        self.brings: dict[tuple[Label, Label], tuple[Pair, ...]] = {}
        for one, other in itertools.combinations(factors, 2):
            fineness = granularities(one, other, most)
            for a, b in itertools.product(one.options, other.options):
                found = tuple(((one.name, a.labels[at]), (other.name, b.labels[by])) for at, by in fineness)
                self.brings[(one.name, a.name), (other.name, b.name)] = found
                self.brings[(other.name, b.name), (one.name, a.name)] = found

    def why_not(self, chosen: Mapping[str, Option], name: str) -> str:
        """The reason against the option just chosen for a factor; empty if there is none."""
        for rule in self.rules[name]:
            if not all(each in chosen for each in rule.factors):
                continue
            if rule.forbids(*(chosen[each] for each in rule.factors)):
                return rule.why
        return ""

    def gain(self, chosen: Mapping[str, Option], name: str, option: Option, missing: set[Pair]) -> int:
        label = (name, option.name)
        found = int((label, label) in missing)
        for other, taken in chosen.items():
            if other != name:
                found += sum(pair in missing for pair in self.brings[label, (other, taken.name)])
        return found

    def fill(self, begun: Mapping[str, Option], missing: set[Pair]) -> tuple[dict[str, Option] | None, str]:
        """A whole combination around some options, or None and the reason of the last dead end."""
        chosen: dict[str, Option] = {}
        for name, option in begun.items():
            chosen[name] = option
            if why := self.why_not(chosen, name):
                return None, why
        rest = [factor for factor in self.factors if factor.name not in chosen]
        self.draw.shuffle(rest)
        # first what rules tie to the rest: dead ends show early
        rest.sort(key=lambda factor: -len(self.rules[factor.name]))
        for name in begun:
            if why := self._dead_end(chosen, name, rest):
                return None, why
        self.nodes, self.reason = 0, ""
        return (chosen if self._extend(chosen, rest, missing) else None), self.reason

    def _dead_end(self, chosen: dict[str, Option], name: str, rest: Sequence[Factor]) -> str:
        """The reason why some factor has no option left after the one just chosen; empty if all have."""
        tied = {each for rule in self.rules[name] for each in rule.factors}
        for factor in rest:
            if factor.name not in tied:
                continue
            why = ""
            for option in factor.options:
                chosen[factor.name] = option
                why = self.why_not(chosen, factor.name)
                if not why:
                    break
            del chosen[factor.name]
            if why:
                return why
        return ""

    def _extend(self, chosen: dict[str, Option], rest: Sequence[Factor], missing: set[Pair]) -> bool:
        if not rest:
            return True
        factor = rest[0]
        ranked = sorted(
            factor.options,
            key=lambda option: (
                -self.gain(chosen, factor.name, option, missing),
                self.used[factor.name, option.name],
                self.draw.random(),
            ),
        )
        for option in ranked:
            self.nodes += 1
            if self.nodes > _PATIENCE:
                raise RuntimeError(f"no end of tries at {factor.name}: too many rules hang together")
            chosen[factor.name] = option
            why = self.why_not(chosen, factor.name) or self._dead_end(chosen, factor.name, rest[1:])
            if not why and self._extend(chosen, rest[1:], missing):
                return True
            self.reason = why or self.reason
            del chosen[factor.name]
        return False


def cover(factors: Sequence[Factor], rules: Sequence[Rule], *, seed: int = 0, most: int = MOST) -> Covering:
    """Combinations in which every required pair occurs, but those that rules exclude.

    Args:
        factors: what combinations differ in.
        rules: what does not go together.
        seed: decides between equals; equal seeds give equal combinations.
        most: see `MOST`.
    """
    search = _Search(factors, rules, seed, most)
    wanted = required(factors, most)
    missing, excluded = set(wanted), {}
    combinations = []
    while missing:
        best: dict[str, Option] = {}
        score = 0
        for pair in search.draw.sample(sorted(missing), min(_TRIES, len(missing))):
            found, reasons = None, []
            for options in wanted[pair]:
                begun = {label[0]: option for label, option in zip(pair, options, strict=False)}
                found, why = search.fill(begun, missing)
                if found is not None:
                    break
                reasons.append(why)
            if found is None:
                excluded[pair] = reasons[-1]
                missing.discard(pair)
                continue
            brought = len(missing.intersection(pairs_of(found, factors, most)))
            if brought > score:
                best, score = found, brought
        if best:
            # in the factors' order, whatever order it was found in
            combinations.append({factor.name: best[factor.name] for factor in factors})
            search.used.update((name, option.name) for name, option in best.items())
            missing -= set(pairs_of(best, factors, most))
    covered = frozenset(pair for each in combinations for pair in pairs_of(each, factors, most))
    return Covering(combinations=combinations, covered=covered, excluded=excluded)
