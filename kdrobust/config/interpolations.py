"""Walking through a config, and what is wrong with its values that are missing or refer to others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from kdrobust.config.annotations import describe
from kdrobust.config.build import first_line
from kdrobust.config.numbers import is_number
from kdrobust.config.schema import shown

#: A plain reference, or one with a default, inside an interpolation; group 1 is the key it names.
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([^${}:,]+)(?:,[^${}]*)?\}")


def join(key: str, name: Any) -> str:
    """The dotted key of a child: `a.b`, or `a[0]` in a list."""
    if isinstance(name, int):
        return f"{key}[{name}]"
    return f"{key}.{name}" if key else str(name)


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, DictConfig | ListConfig) and not node._is_none() and not node._is_missing():
        names: Any = node.keys() if isinstance(node, DictConfig) else range(len(node))
        for name in names:
            yield name, node._get_node(name)


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Every node below one as (dotted key, parent, name, node), parents first; interpolations are not followed."""
    for name, child in _children(node):
        full = join(key, name)
        yield full, node, name, child
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation():
            yield from walk(child, full)


def value_problems(cfg: DictConfig) -> list[str]:
    """Missing values (`???`) and interpolations that lead nowhere, one line each; Hydra's own node does not count."""
    problems = []
    for key, parent, name, child in walk(cfg):
        if child is None or key.split(".")[0] == "hydra":
            continue
        if child._is_missing():
            problems.append(f"{key}: not given; set {key}=...")
        elif child._is_interpolation():
            try:
                parent[name]
            except (InterpolationToMissingValueError, MissingMandatoryValue):
                # the missing value is named by its own line
                continue
            except OmegaConfBaseException as error:
                problems += _unresolved(cfg, key, str(child._value()), error)
            except RecursionError:
                problems.append(f"{key}: cannot resolve {child._value()}: it leads back to itself")
    return problems


def _absolute(path: str, key: str) -> str:
    """The full key that a reference at `key` names: `.a` is a sibling, `..a` one of the parent's."""
    dots = len(path) - len(path.lstrip("."))
    above = re.split(r"\.|\[", key)[:-dots] if dots else []
    return ".".join([*above, path[dots:]])


def _references(cfg: DictConfig, key: str, text: str) -> Iterator[tuple[str, Any, Any]]:
    """What an interpolation reads, as (full key, parent, name); what does not exist is left out."""
    for match in REFERENCE.finditer(text):
        path = _absolute(match[1], key)
        above, _, leaf = path.rpartition(".")
        with contextlib.suppress(OmegaConfBaseException):
            parent = OmegaConf.select(cfg, above) if above else cfg
            if isinstance(parent, DictConfig) and parent._get_node(leaf) is not None:
                yield path, parent, leaf


def _reads_itself(cfg: DictConfig, key: str, text: str) -> bool:
    seen: set[str] = set()
    left = [(key, text)]
    while left:
        for path, parent, leaf in _references(cfg, *left.pop()):
            if path == key:
                return True
            child = parent._get_node(leaf)
            if path not in seen and child._is_interpolation():
                seen.add(path)
                left.append((path, str(child._value())))
    return False


def _unresolved(cfg: DictConfig, key: str, text: str, error: OmegaConfBaseException) -> list[str]:
    """Lines for an interpolation that fails: at the values it computes with, where one of them is to blame."""
    if above := _no_container(cfg, key, text):
        return above
    if "recursi" in str(error).lower():
        # what only reads a circle is told by the circle's own lines
        return [f"{key}: cannot resolve {text}: it leads back to itself"] if _reads_itself(cfg, key, text) else []
    problems = []
    for path, parent, leaf in _references(cfg, key, text):
        try:
            value = parent[leaf]
        except OmegaConfBaseException:
            # it fails itself, and has its own line
            return []
        if "number" in str(error) and not isinstance(value, DictConfig) and not is_number(value):
            problems.append(f"{path}: expected {describe(float)}, got {shown(value)}")
    return problems or [f"{key}: cannot resolve {text}: {_reason(error)}"]


def _no_container(cfg: DictConfig, key: str, text: str) -> list[str]:
    """A line for the first key on the way to what an interpolation names that is null, or a plain value."""
    for match in REFERENCE.finditer(text):
        pieces = _absolute(match[1], key).split(".")
        for count in range(1, len(pieces)):
            path = ".".join(pieces[:count])
            try:
                value = OmegaConf.select(cfg, path)
            except OmegaConfBaseException:
                break
            if not OmegaConf.is_config(value) and path.split(".")[0] in cfg:
                return [f"{path}: expected a mapping of keys, got {shown(value)} ({key} reads it)"]
    return []


def _reason(error: OmegaConfBaseException) -> str:
    line = first_line(error)
    return re.sub(r"^(\w+) raised while resolving interpolation: ", "", line).removesuffix(
        " while resolving interpolation"
    )
