"""Everything wrong with a composed config, found without loading data, teacher or checkpoint, and told at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.annotations import describe, fits, parameter_types
from kdrobust.config.build import INSTRUCTIONS, NO_COMPONENT, key_of, trusted_modules
from kdrobust.config.interpolations import REFERENCE, join, value_problems
from kdrobust.config.kinds import Kind, argument, slot
from kdrobust.config.schema import schema_problems, shown
from kdrobust.config.suggest import available, did_you_mean
from kdrobust.config.targets import below, signature
from kdrobust.errors import UsageError

_MOST = 12
_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
#: Groups whose components stand there whole; elsewhere keys may be merged into another config's component.
_WHOLE = ("threat", "attack", "callbacks", "logger", "optimizer", "scheduler", "data", "evaluation")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _source(parent: Any, name: Any, key: str) -> str:
    """The key a value was written at: follows plain references such as `${method.attack.steps}`."""
    root = parent._get_root()
    for _ in range(8):
        child = parent._get_node(name)
        match = REFERENCE.fullmatch(str(child._value())) if child is not None and child._is_interpolation() else None
        if match is None or match[1].startswith("."):
            return key
        path, _, leaf = match[1].rpartition(".")
        target = OmegaConf.select(root, path) if path else root
        if not isinstance(target, DictConfig) or target._get_node(leaf) is None:
            return key
        parent, name, key = target, leaf, match[1]
    return key


def _component_problems(node: DictConfig, key: str, kind: Kind | None, trusted: Sequence[str]) -> list[str]:
    """What is wrong with a node that has a `_target_`, and with what lies below it."""
    if kind is None:
        return [f"{key}: {NO_COMPONENT}"]
    try:
        path = node["_target_"]
        target = kind.find(path, trusted)
    except UsageError as error:
        return [f"{join(key, '_target_')}: {error}"]
    except OmegaConfBaseException:
        return []
    problems = _argument_problems(node, key, str(path), target)
    for name in node:
        problems += _below(node, name, key, argument(target, str(name), trusted), trusted, inside=True)
    return problems


def _below(
    parent: Any, name: Any, key: str, kind: Kind | None, trusted: Sequence[str], *, inside: bool = False
) -> list[str]:
    """What is wrong with the components in a child.

    Args:
        parent: a mapping or list.
        name: of the child.
        key: the parent's.
        kind: what the child takes; None: what its key does.
        trusted: the user's own packages.
        inside: whether it is a component's argument, whose key says nothing.
    """
    child, full = parent._get_node(name), join(key, name)
    own = None if inside else slot(full)
    kind = kind or own
    if child is None or child._is_missing() or child._is_none():
        return []
    if child._is_interpolation():
        try:
            value = parent[name]
        except (OmegaConfBaseException, RecursionError):
            return []
        if kind is None or not isinstance(value, DictConfig) or "_target_" not in value:
            return []
        if slot(key_of(value)) is kind:
            # reported where it stands
            return []
        try:
            kind.find(value["_target_"], trusted)
        except (UsageError, OmegaConfBaseException) as error:
            return [f"{full}: {error}"]
        return []
    if isinstance(child, DictConfig) and "_target_" in child:
        return _component_problems(child, full, kind, trusted)
    if own is not None and full.split(".")[0] in _WHOLE:
        value = "a mapping without `_target_`" if isinstance(child, DictConfig) else shown(child._value())
        return [f"{full}: expected {own.label}, a mapping with `_target_`, got {value}"]
    if isinstance(child, DictConfig | ListConfig):
        names: Any = range(len(child)) if isinstance(child, ListConfig) else list(child)
        return [line for each in names for line in _below(child, each, full, kind, trusted, inside=inside)]
    return []


def _argument_problems(node: DictConfig, key: str, path: str, target: Any) -> list[str]:
    problems = [
        f"{join(key, name)}: no such instruction; there are {', '.join(INSTRUCTIONS)}"
        for name in node
        if str(name).startswith("_") and name not in INSTRUCTIONS
    ]
    if not isinstance(node.get("_partial_", False), bool):
        problems.append(f"{key}._partial_: expected true or false, got {shown(node.get('_partial_'))}")
    takes = signature(target)
    if takes is None:
        return problems
    hints = parameter_types(target)
    parameters = takes.parameters
    named = {name: parameter for name, parameter in parameters.items() if parameter.kind in _NAMED}
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    given = [str(name) for name in node if not str(name).startswith("_")]
    for name in given:
        full = join(key, name)
        if name not in named:
            if not open_ended:
                close = did_you_mean(name, named, prefix=f"{key}." if key else "")
                takes_text = "" if close else f"; it takes {available(named) if named else 'no arguments'}"
                if not below(path, ["kdrobust"]):
                    # left over from the class that stood here before
                    takes_text += f" (to leave it out: ~{full})"
                problems.append(f"{full}: {path} takes no {name!r}{close}{takes_text}")
        elif name in hints:
            problems += _type_problems(node, name, full, hints[name])
    return [*problems, *_missing_arguments(node, key, path, named, given)]


def _missing_arguments(
    node: DictConfig, key: str, path: str, named: Mapping[str, inspect.Parameter], given: Sequence[str]
) -> list[str]:
    if node.get("_partial_"):
        return []
    needed = [name for name, parameter in named.items() if parameter.default is inspect.Parameter.empty]
    return [f"{join(key, name)}: {path} needs it; set it" for name in needed if name not in given]


def _type_problems(node: DictConfig, name: str, full: str, hint: Any) -> list[str]:
    try:
        value = node[name]
    except (OmegaConfBaseException, RecursionError):
        return []
    if isinstance(value, DictConfig | ListConfig):
        if isinstance(value, DictConfig) and "_target_" in value:
            return []
        try:
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        except (OmegaConfBaseException, RecursionError):
            return []
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return []
    if fits(value, hint):
        return []
    written = _source(node, name, full)
    reader = "" if written == full else f" ({full} reads it)"
    return [f"{written}: expected {describe(hint)}, got {shown(value)}{reader}"]


def check(cfg: DictConfig, kind: Kind | None = None) -> list[str]:
    """Everything wrong with a composed config, one line each; empty if nothing is.

    Looks at: types and ranges of the primary keys, missing values, interpolations that lead nowhere, and for every
    `_target_`: whether it is allowed and importable, unknown and missing arguments, arguments of a wrong type. Data,
    checkpoints and models are not touched; nothing of a refused target is imported.

    Args:
        cfg: the root of a composed config, or a component.
        kind: what the component is.

    Returns:
        Lines that begin with the full dotted key.
    """
    problems = [*schema_problems(cfg), *value_problems(cfg)]
    trusted = trusted_modules(cfg)
    if "_target_" in cfg:
        # a component by itself
        problems += _component_problems(cfg, "", kind, trusted)
    else:
        for name in cfg:
            if name != "hydra":
                problems += _below(cfg, name, "", None, trusted)
    return distinct(problems)


def distinct(problems: Sequence[str]) -> list[str]:
    """One line a cause: several readers of one wrong value, or two checks of one key, count once."""
    seen: dict[str, str] = {}
    for line in problems:
        seen.setdefault(re.sub(r" \([^()]* reads it\)$", "", line), line)
    # what has no value of the right type is not also asked for a range: `a: expected ...` says it, `a=b: ...` does not
    typed: dict[str, str] = {}
    for line in seen.values():
        if ": expected " in line:
            typed.setdefault(_key_of(line), line)
    return [line for line in seen.values() if typed.get(_key_of(line), line) == line or not _names_value(line)]


def _key_of(line: str) -> str:
    """The dotted key that a line begins with, as `a: ...` or `a=b: ...`; else what stands before its colon."""
    found = re.match(r"([\w.\[\]]+)(?:=(?:\S*|\[.*\]))?:", line)
    return found[1] if found else line.split(":")[0]


def _names_value(line: str) -> bool:
    """Whether a line is about a key's value: `a: expected ...` or `a=b: ...`."""
    return ": expected " in line or line.startswith(f"{_key_of(line)}=")


def summary(problems: Sequence[str]) -> str:
    """The one line, or a count and one line each, cut where there are many; equal lines count once."""
    problems = distinct(problems)
    if len(problems) == 1:
        return problems[0]
    more = [f"  ... and {len(problems) - _MOST} more"] if len(problems) > _MOST else []
    told = [f"  {line}" for line in problems[:_MOST]]
    return "\n".join([f"{len(problems)} problems in the configuration:", *told, *more])


def ensure(cfg: DictConfig, extra_problems: Sequence[str] = ()) -> None:
    """Refuse a config with anything wrong in it.

    Args:
        cfg: the root of a composed config.
        extra_problems: lines of further checks, told together with `check`'s.

    Raises:
        UsageError: the one line, or `N problems in the configuration:` and one line each.
    """
    problems = distinct([*check(cfg), *extra_problems])
    if problems:
        raise UsageError(summary(problems))
