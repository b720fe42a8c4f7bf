"""What can be searched: one parameter of a space, read from YAML or from a swept override, and written as override."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdrobust.config.numbers import as_number
from kdrobust.config.suggest import did_you_mean

TYPES = ("float", "int", "choice")
_KEYS = ("type", "low", "high", "log", "step", "values")
# ASCII: in Hydra's grammar other letters and digits stand in quotes
_PLAIN = re.compile(r"[A-Za-z0-9_][\w./+-]*|-?[\d.]+(?:e[+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched key.

    Attributes:
        key: dotted config key, or a group's choice (`method`, `model@student`).
        type: `float`, `int` or `choice`.
        low: least value, included; of float and int.
        high: greatest value, included.
        log: search the logarithm.
        step: distance of neighbouring values from `low` on; None: any float, every integer.
        values: what a choice chooses from: numbers, texts, true, false, null. A text that begins with `[` or `{` is a
            list or mapping in Hydra's spelling.
    """

    key: str
    type: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    values: tuple[Any, ...] = ()

    def override(self, value: Any) -> str:
        """The command-line override that sets this parameter."""
        return f"{self.key}={spelled(value)}"

    def points(self) -> list[Any] | None:
        """Every value in order, for a grid; None where there are infinitely many."""
        if self.type == "choice":
            return list(self.values)
        step = self.step or (1 if self.type == "int" else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        # no sums: 0.1 + 0.1 + 0.1 is not 0.3
        values = [round(self.low + index * step, 12) for index in range(count)]
        return [int(value) for value in values] if self.type == "int" else values


def spelled(value: Any) -> str:
    """A plain value in the spelling of Hydra's overrides; texts are quoted where they must be."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    if value[:1] in ("[", "{") or _PLAIN.fullmatch(value):
        return value
    # backslashes are themselves, but before a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", "\\'"), value) + "'"


def read_parameter(key: str, node: Any) -> tuple[Parameter | None, list[str]]:
    """A parameter from its YAML node, or what is wrong with the node, one line each.

    Args:
        key: the searched key.
        node: mapping with `type` and what it needs.
    """
    where = f"search.space.{key}"
    if not isinstance(node, Mapping):
        return None, [f"{where}: expected a mapping such as {{type: float, low: 0, high: 1}}, got {node!r}"]
    problems = []
    for name in node:
        if name not in _KEYS:
            close = did_you_mean(str(name), _KEYS, prefix=f"{where}.")
            problems.append(f"{where}.{name}: no such key{close or '; there are ' + ', '.join(_KEYS)}")
    kind = node.get("type")
    if kind not in TYPES:
        return None, [*problems, f"{where}.type: expected one of {', '.join(TYPES)}, got {kind!r}"]
    if kind == "choice":
        parameter, found = _choice(key, where, node)
    else:
        parameter, found = _range(key, where, str(kind), node)
    problems += found
    return (None if problems else parameter), problems


def _choice(key: str, where: str, node: Mapping[str, Any]) -> tuple[Parameter, list[str]]:
    values = node.get("values")
    problems = [f"{where}.{name}: a choice has only values" for name in ("low", "high", "log", "step") if name in node]
    if not isinstance(values, list) or not values:
        problems.append(f"{where}.values: expected a list of at least one value, got {values!r}")
        values = []
    problems += [
        f"{where}.values: expected plain values, got {value!r}; write lists as text: '[1,2]'"
        for value in values
        if not isinstance(value, str | int | float | bool | None)
    ]
    # repr, because 1 and True are equal
    if len({repr(value) for value in values}) < len(values):
        problems.append(f"{where}.values: a value stands there twice")
    return Parameter(key=key, type="choice", values=tuple(values)), problems


def _range(key: str, where: str, kind: str, node: Mapping[str, Any]) -> tuple[Parameter, list[str]]:
    problems = [f"{where}.values: {kind} has low and high; use type: choice"] if "values" in node else []
    numbers: dict[str, float] = {}
    for name in ("low", "high", "step"):
        given = node.get(name)
        if given is None:
            if name != "step":
                problems.append(f"{where}.{name}: not given")
            continue
        try:
            number = as_number(given)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (kind == "int" and number != int(number)):
            problems.append(f"{where}.{name}: expected {'an integer' if kind == 'int' else 'a number'}, got {given!r}")
        else:
            numbers[name] = int(number) if kind == "int" else number
    log = node.get("log", False)
    if not isinstance(log, bool):
        problems.append(f"{where}.log: expected true or false, got {log!r}")
    low, high, step = numbers.get("low", 0.0), numbers.get("high", 0.0), numbers.get("step")
    if {"low", "high"} <= set(numbers) and low >= high:
        problems.append(f"{where}: low must be below high, got {low:g} and {high:g}")
    if log is True and "low" in numbers and low <= 0:
        problems.append(f"{where}: log needs low above 0, got {low:g}")
    if log is True and step is not None:
        problems.append(f"{where}: log and step exclude each other")
    if step is not None and step <= 0:
        problems.append(f"{where}.step: must be above 0, got {step:g}")
    return Parameter(key=key, type=kind, low=low, high=high, log=bool(log), step=step), problems
