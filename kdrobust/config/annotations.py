"""Does a value from YAML fit a parameter's annotation? Judges what it understands, and lets the rest pass."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from kdrobust.config.numbers import is_number

_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_PLAIN = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def parameter_types(target: Any) -> dict[str, Any]:
    """Parameter name to annotation, with forward references resolved where they can be."""
    try:
        return dict(_cached_types(target))
    except TypeError:
        return _types(target)  # no key of a cache


@functools.lru_cache(maxsize=1024)
def _cached_types(target: Any) -> dict[str, Any]:
    return _types(target)


def _types(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    raw = dict(getattr(function, "__annotations__", {}))
    try:
        return typing.get_type_hints(function)
    except Exception:
        # a name imported under TYPE_CHECKING only: resolve the others one by one
        space = vars(sys.modules.get(getattr(function, "__module__", ""), types.SimpleNamespace()))
        return {name: _resolved(hint, space) for name, hint in raw.items()}


def _resolved(hint: Any, space: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"x": hint}), globalns=space)["x"]
    except Exception:
        return Any


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, flat; of anything else, itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(inner for member in get_args(hint) for inner in members(member))
    return (hint,)


def takes_number(hint: Any) -> bool:
    """Whether a parameter is for a real number, so that `8/255` may stand for it."""
    return any(member is float for member in members(hint))


def _known(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return origin in _PLAIN or origin is Literal or origin in _LISTS or origin in _DICTS or hint in (Path, os.PathLike)


def _fits_list(value: Any, hint: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    inner = get_args(hint)
    if not inner:
        return True
    if get_origin(hint) is tuple and Ellipsis not in inner:
        return len(inner) == len(value) and all(fits(item, kind) for item, kind in zip(value, inner, strict=True))
    return all(fits(item, inner[0]) for item in value)


def _fits_one(value: Any, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if origin is float:
        return not isinstance(value, bool) and is_number(value)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in _PLAIN:
        return isinstance(value, origin)
    if hint in (Path, os.PathLike):
        return isinstance(value, str | Path)
    if origin in _DICTS:
        return isinstance(value, dict)
    return _fits_list(value, hint)


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value (number, text, list, dict, None) may be given where `hint` is annotated.

    Unknown annotations fit everything; in a union beside known ones, a class that YAML cannot write fits only
    containers (which may hold a `_target_`).
    """
    options = members(hint)
    known = [option for option in options if _known(option)]
    if not known or Any in options or any(isinstance(option, typing.TypeVar) for option in options):
        return True
    if len(known) < len(options) and isinstance(value, dict | list):
        return True
    numeric = {option for option in known if option in (int, float, str)}
    if isinstance(value, str) and numeric >= {float, str} and not any(get_origin(o) is Literal for o in known):
        # `float | str` is how a constructor says "a number or a fraction"
        return is_number(value)
    return any(_fits_one(value, option) for option in known)


def describe(hint: Any) -> str:
    """An annotation in words: `a number or a fraction such as 8/255`, `one of 'eval', 'train'`."""
    options = members(hint)
    words: list[str] = []
    choices = [repr(choice) for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if choices:
        words.append(choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}")
    for option in options:
        origin = get_origin(option) or option
        if option is float:
            words.append("a number or a fraction such as 8/255")
        elif option is str and float in options:
            continue
        elif origin in _PLAIN:
            words.append(_PLAIN[origin])
        elif origin in _DICTS:
            words.append("a mapping")
        elif origin in _LISTS:
            words.append("a list")
        elif option in (Path, os.PathLike):
            words.append("a path")
    return " or ".join(dict.fromkeys(words)) or "another type"
