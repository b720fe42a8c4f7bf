"""What conf/ offers, read off its files: options, the keys of one, what a method's header says it needs. No torch."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kdrobust.config import conf_dir
from kdrobust.headers import read_header

_TEACHER = re.compile(r"(?:teachers\.)?(\w+) \((live|clean|trained along)\)")


def options(group: str) -> list[str]:
    """The options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


@functools.cache
def read(group: str, option: str) -> dict[str, Any]:
    """An option's keys over those of the options of the same group that it starts from; interpolations stay text."""
    own = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")) or {}
    merged: dict[str, Any] = {}
    for parent in own.pop("defaults", []):
        if isinstance(parent, str) and parent not in ("_self_", option):
            merged = laid_over(merged, read(group, parent))
        elif isinstance(parent, dict):
            merged = laid_over(merged, {"slots": [name.partition("@")[2] for name in parent]})
    return laid_over(merged, own)


def laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = laid_over(merged[key], value) if both else value
    return merged


def numbers(node: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number below a node by its dotted key."""
    for name, value in node.items():
        full = f"{key}.{name}" if key else str(name)
        if isinstance(value, dict):
            yield from numbers(value, full)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield full, value


def needs(group: str, option: str) -> dict[str, str]:
    """The models that an option's header says it learns from: name to live, clean or `trained along`."""
    return dict(_TEACHER.findall(read_header(conf_dir() / group / f"{option}.yaml")["Needs"]))


def attacks(method: str) -> bool:
    """Whether a method's header counts the steps of an inner attack."""
    return "attack step" in read_header(conf_dir() / "method" / f"{method}.yaml")["Cost"]
