"""A suite of the benchmark, read from `conf/suite/NAME.yaml`: what is compared, on what, and the questions asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kdrobust import listing
from kdrobust.config.check import summary
from kdrobust.config.numbers import is_number
from kdrobust.config.suggest import available, did_you_mean
from kdrobust.errors import UsageError
from kdrobust.headers import header_lines, read_header

GROUP = "suite"
Overrides = tuple[str, ...]
#: Of conf/attack's default and conf/callbacks' `attack`; tests compare.
_STEPS, _FIRST_STEPS = 10, 2


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a block tunes each method before it measures it: on validation data, by Optuna's TPE.

    Attributes:
        trials: trainings a method and student.
        seed: of those trainings, and of the proposals.
        spaces: method to the parameters searched, as in `conf/search/`.
    """

    trials: int
    seed: int
    spaces: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A named part of a suite: methods × students × points of a grid × seeds.

    Attributes:
        name: as in `blocks=[NAME]`.
        question: what it answers, for readers.
        methods: names to overrides; the suite's, or the block's own where its YAML maps names to overrides.
        students: names of the suite's students.
        seeds: of the trainings.
        grid: override key to values, each combination a point.
        settings: overrides beside the suite's.
        evaluation: overrides of its evaluations; None: the suite's.
        passes: student passes a training sample is to cost in all; None: the suite's epochs for everyone.
        tune: None: hyper-parameters as the methods' YAMLs have them, the papers'.
        baseline: the method the others are compared with; None: the suite's.
        notes: what a reader of its figures must know, a sentence or more each.
    """

    name: str
    question: str
    methods: Mapping[str, Overrides]
    students: tuple[str, ...]
    seeds: tuple[int, ...]
    grid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Overrides = ()
    evaluation: Overrides | None = None
    passes: float | None = None
    tune: Tuning | None = None
    baseline: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What `suite=NAME` means.

    Attributes:
        name: the option's.
        summary: first line of its header.
        epochs: of every training, where a block does not say otherwise.
        settings: overrides of every training.
        evaluation: overrides of every evaluation.
        baseline: the method the others are compared with.
        students: names to overrides.
        methods: names to overrides.
        blocks: names to blocks, in order.
        notes: what a reader of any of its figures must know, a sentence or more each.
    """

    name: str
    summary: str
    epochs: int
    settings: Overrides
    evaluation: Overrides
    baseline: str
    students: Mapping[str, Overrides]
    methods: Mapping[str, Overrides]
    blocks: Mapping[str, Block]
    notes: tuple[str, ...] = ()


_SUITE = ("notes", "epochs", "settings", "evaluation", "baseline", "seeds", "students", "methods", "blocks")
_BLOCK = (
    "question", "notes", "methods", "students", "seeds", "grid", "settings", "evaluation", "passes", "tune", "baseline",
)  # fmt: skip


def read_suite(name: str) -> Suite:
    """The suite of a name, looked for in `./conf/suite`, then in kdrobust's.

    Raises:
        UsageError: there is none, or everything wrong with it, one line each.
    """
    found = {option.name: option for option in listing.options(GROUP)}
    if name not in found:
        raise UsageError(f"suite={name}: no such suite{did_you_mean(name, found)}; there are {available(found)}")
    path = found[name].path
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    lines = header_lines(path)
    return parse_suite(name, plain if isinstance(plain, dict) else {}, told=lines[0] if lines else "")


def parse_suite(name: str, node: Mapping[str, Any], *, told: str = "") -> Suite:
    """A suite from its YAML.

    Args:
        name: the option's.
        node: its keys, plain.
        told: its summary.

    Raises:
        UsageError: everything wrong with it, one line each.
    """
    reader = _Reader(name)
    reader.known(node, _SUITE)
    methods = reader.overrides(node, "methods", "")
    students = reader.overrides(node, "students", "")
    seeds = reader.seeds(node, "seeds", "", (0, 1, 2, 3, 4))
    epochs = node.get("epochs")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        reader.say("epochs", f"expected an integer >= 1, got {epochs!r}")
        epochs = 1
    blocks = {}
    nodes = node.get("blocks")
    if not isinstance(nodes, Mapping) or not nodes:
        reader.say("blocks", "expected at least one block")
        nodes = {}
    for key, child in nodes.items():
        blocks[str(key)] = reader.block(str(key), child or {}, methods, students, seeds)
    baseline = str(node.get("baseline"))
    if methods and baseline not in methods:
        reader.say("baseline", f"{baseline}: no method of the suite{did_you_mean(baseline, methods)}")
    suite = Suite(
        name=name,
        summary=told,
        epochs=epochs,
        settings=reader.texts(node, "settings", ""),
        evaluation=reader.texts(node, "evaluation", ""),
        baseline=baseline,
        students=students,
        methods=methods,
        blocks=blocks,
        notes=reader.notes(node, ""),
    )
    if reader.problems:
        raise UsageError(summary(reader.problems))
    return suite


class _Reader:
    """Reads keys and notes what is wrong with them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []

    def say(self, key: str, what: str) -> None:
        self.problems.append(f"suite={self.name} {key}: {what}")

    def known(self, node: Mapping[str, Any], keys: Sequence[str], place: str = "") -> None:
        for key in node:
            if key not in keys:
                self.say(f"{place}{key}", f"no such key{did_you_mean(str(key), keys)}; there are {', '.join(keys)}")

    def texts(self, node: Mapping[str, Any], key: str, place: str) -> Overrides:
        return self._texts(node.get(key), f"{place}{key}")

    def _texts(self, value: Any, key: str) -> Overrides:
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and "=" in item for item in value):
            self.say(key, f"expected a list of overrides such as [data=digits], got {value!r}")
            return ()
        return tuple(value)

    def notes(self, node: Mapping[str, Any], place: str) -> tuple[str, ...]:
        value = node.get("notes") or []
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            self.say(f"{place}notes", f"expected a list of sentences, got {value!r}")
            return ()
        return tuple(" ".join(item.split()) for item in value)

    def overrides(self, node: Mapping[str, Any], key: str, place: str) -> dict[str, Overrides]:
        value = node.get(key)
        if not isinstance(value, Mapping) or not value:
            self.say(f"{place}{key}", f"expected names with lists of overrides, got {value!r}")
            return {}
        return {str(name): self._texts(child, f"{place}{key}.{name}") for name, child in value.items()}

    def seeds(self, node: Mapping[str, Any], key: str, place: str, default: tuple[int, ...]) -> tuple[int, ...]:
        value = node.get(key)
        if value is None:
            return default
        whole = isinstance(value, list) and all(isinstance(seed, int) and seed >= 0 for seed in value)
        if not whole or not value or len(set(value)) < len(value):
            self.say(f"{place}{key}", f"expected different integers >= 0, e.g. [0, 1, 2], got {value!r}")
            return default
        return tuple(value)

    def block(
        self,
        name: str,
        node: Any,
        methods: Mapping[str, Overrides],
        students: Mapping[str, Overrides],
        seeds: tuple[int, ...],
    ) -> Block:
        place = f"blocks.{name}."
        if not isinstance(node, Mapping):
            self.say(place[:-1], f"expected keys, got {node!r}")
            node = {}
        self.known(node, _BLOCK, place)
        if isinstance(node.get("methods"), Mapping):
            chosen = self.overrides(node, "methods", place)
        else:
            chosen = {key: methods[key] for key in self._chosen(node, "methods", place, methods)}
        passes = node.get("passes")
        if passes is not None and not (is_number(passes) and float(passes) > 0):
            self.say(f"{place}passes", f"expected a number > 0, got {passes!r}")
            passes = None
        baseline = node.get("baseline")
        if baseline is not None and baseline not in chosen:
            self.say(f"{place}baseline", f"{baseline}: no method of the block{did_you_mean(str(baseline), chosen)}")
        return Block(
            name=name,
            baseline=None if baseline is None else str(baseline),
            question=str(node.get("question") or ""),
            methods=chosen,
            students=self._chosen(node, "students", place, students),
            seeds=self.seeds(node, "seeds", place, seeds),
            grid=self._grid(node, place),
            settings=self.texts(node, "settings", place),
            evaluation=self.texts(node, "evaluation", place) if "evaluation" in node else None,
            passes=passes,
            tune=self._tuning(node.get("tune"), f"{place}tune"),
            notes=self.notes(node, place),
        )

    def _chosen(self, node: Mapping[str, Any], key: str, place: str, known: Mapping[str, Any]) -> tuple[str, ...]:
        value = node.get(key)
        if value is None:
            return tuple(known)
        if not isinstance(value, list) or not value:
            self.say(f"{place}{key}", f"expected a list of names, got {value!r}")
            return ()
        for name in value:
            if name not in known:
                self.say(f"{place}{key}", f"{name}: the suite has none of this name{did_you_mean(str(name), known)}")
        return tuple(name for name in value if name in known)

    def _grid(self, node: Mapping[str, Any], place: str) -> dict[str, tuple[str, ...]]:
        value = node.get("grid") or {}
        if not isinstance(value, Mapping) or not all(isinstance(each, list) and each for each in value.values()):
            self.say(f"{place}grid", f"expected override keys with lists of values, got {value!r}")
            return {}
        return {str(key): tuple(str(item) for item in values) for key, values in value.items()}

    def _tuning(self, node: Any, place: str) -> Tuning | None:
        if node is None:
            return None
        known = ("trials", "seed", "spaces")
        if not isinstance(node, Mapping) or set(node) - set(known):
            self.say(place, f"expected {', '.join(known)}, got {node!r}")
            return None
        trials, seed, spaces = node.get("trials"), node.get("seed", 0), node.get("spaces") or {}
        if not isinstance(trials, int) or trials < 1 or not isinstance(seed, int):
            self.say(f"{place}.trials", f"expected an integer >= 1, and a seed, got {trials!r}, {seed!r}")
            return None
        if not isinstance(spaces, Mapping) or not all(isinstance(space, Mapping) for space in spaces.values()):
            self.say(f"{place}.spaces", f"expected methods with the parameters to search, got {spaces!r}")
            return None
        return Tuning(trials=trials, seed=seed, spaces=spaces)


def option_of(name: str, overrides: Sequence[str]) -> str:
    """The option of group `method` that an entry of a suite trains by: its override `method=...`, or its name."""
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("method=")]
    return chosen[-1] if chosen else name


def student_passes(option: str, overrides: Sequence[str] = ()) -> float | None:
    """Student passes of a training step by a method, attack included: its YAML's header, and what overrides change.

    A header counts the default K = 10 attack steps. With `attack.steps=K` they are K; with steps that grow from k to
    K over a share g of the training (`callbacks.attack.growth`, `.first_steps`), `g·(k + (K - k - 1)/2) + (1 - g)·K` in
    the mean.

    Args:
        option: of group `method`.
        overrides: of the training.

    Returns:
        None where there is no such option, its header tells no cost, or an override replaces the attack.
    """
    found = next((each.path for each in listing.options("method") if each.name == option), None)
    cost = read_header(Path(found)).student_passes if found else None
    given = {key.lstrip("+"): value for key, _, value in (text.partition("=") for text in overrides)}
    if cost is None or "attack" in given:
        return None
    steps = float(given.get("attack.steps", _STEPS))
    first = float(given.get("callbacks.attack.first_steps", _FIRST_STEPS))
    growth = float(given.get("callbacks.attack.growth", 0))
    if cost <= _STEPS or (steps == _STEPS and not growth):
        return float(cost)
    mean = growth * (first + (steps - first - 1) / 2) + (1 - growth) * steps if first < steps else steps
    return cost - _STEPS + mean
