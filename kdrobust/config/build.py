"""From config nodes to plain values and objects: no config object ever enters a component."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kdrobust.config.annotations import parameter_types, takes_number
from kdrobust.config.kinds import Kind, argument, slot
from kdrobust.config.numbers import as_number
from kdrobust.config.trust import trusted_packages
from kdrobust.errors import KdrobustError, UsageError, keys_below

#: Keys of a node that are instructions, not arguments.
INSTRUCTIONS = ("_target_", "_partial_")
#: Ends the line of a `_target_` where none is taken.
NO_COMPONENT = "a value is taken here, no component; leave `_target_` out"
# what a constructor raises for an argument it cannot work with; anything else is a bug and keeps its traceback
_REJECTIONS = (ValueError, TypeError, OSError, ImportError)


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _plain(node: Any) -> Any:
    if not isinstance(node, DictConfig | ListConfig):
        return node
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or key_of(node)
        raise UsageError(f"{key}: not given; set {key}=...") from None
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key or key_of(node)}: {first_line(error)}") from None


def key_of(node: Any) -> str:
    """A node's full dotted key; empty for the root and for what is no config node."""
    if not isinstance(node, DictConfig | ListConfig):
        return ""
    return str(node._get_full_key(None))


def to_plain(node: Any) -> Any:
    """A config node as resolved dicts, lists and values; fractions stay the text they are.

    Raises:
        UsageError: a value is missing or an interpolation leads nowhere; names the key.
    """
    return _plain(node)


def as_numbers(value: Any) -> Any:
    """Plain values with every number or fraction that is written as text read as a float."""
    if isinstance(value, dict):
        return {key: as_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_numbers(item) for item in value]
    if isinstance(value, str):
        try:
            return as_number(value)
        except ValueError:
            return value
    return value


def numbers(node: Any) -> Any:
    """`to_plain`, with every number or fraction that is written as text (`"8/255"`) read as a float."""
    return as_numbers(_plain(node))


def trusted_modules(node: Any) -> list[str]:
    """The packages trusted beyond the allowed ones: by a node's root config, and by `trusting`."""
    if not isinstance(node, DictConfig | ListConfig):
        return list(trusted_packages())
    root = node._get_root()
    named = root._get_node("trusted_modules") if isinstance(root, DictConfig) else None
    values = named if isinstance(named, ListConfig) else []
    given = [str(value) for value in values if isinstance(value, str)]
    return [*given, *(name for name in trusted_packages() if name not in given)]


def instantiate(node: Any, kind: Kind | None = None, /, **late: Any) -> Any:
    """Build what a node describes: like Hydra's `instantiate`, of one kind only, and without config objects.

    Mappings with `_target_` become the object it names, innermost first; `_partial_: true` gives a `functools.partial`.
    Parameters annotated `float` take fractions. Everything else comes back as plain dicts, lists and values.

    Args:
        node: a config node or plain mapping.
        kind: what it describes; None: what its key, or the keys below it, take, see `kdrobust.config.kinds`.
        late: arguments that only the code has; they win over the node's.

    Raises:
        UsageError: a target that is not of the kind or not found, or whose constructor refuses an argument; names the
            key.
    """
    plain = _plain(node)
    key = key_of(node)
    build = _Builder(trusted_modules(node))
    if not late:
        return build(plain, key, kind or slot(key))
    factory = build({**plain, "_partial_": True}, key, kind or slot(key))
    if plain.get("_partial_"):
        return functools.partial(factory, **late)
    return _call(factory, late, key)


class _Builder:
    """Builds plain values, innermost first.

    Args:
        trusted: the user's own packages.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self.trusted = trusted

    def __call__(self, value: Any, key: str, kind: Kind | None, *, inside: bool = False) -> Any:
        """What a value describes.

        Args:
            value: plain.
            key: where it stands.
            kind: what the key takes; None: what the keys below it take.
            inside: whether it is a component's argument, below which keys say nothing.
        """
        if isinstance(value, list):
            return [self(item, f"{key}[{index}]", kind, inside=inside) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        full = {name: f"{key}.{name}" if key else str(name) for name in value}
        if "_target_" not in value:
            return {
                name: self(item, full[name], kind or (None if inside else slot(full[name])), inside=inside)
                for name, item in value.items()
            }
        if kind is None:
            raise UsageError(f"{key}: {NO_COMPONENT}" if key else NO_COMPONENT)
        try:
            target = kind.find(value["_target_"], self.trusted)
        except UsageError as error:
            raise UsageError(f"{key}._target_: {error}" if key else str(error)) from error.__cause__
        hints = parameter_types(target)
        arguments = {}
        for name, item in value.items():
            if name not in INSTRUCTIONS:
                taken = argument(target, str(name), self.trusted) if isinstance(item, dict | list) else None
                built = self(item, full[name], taken, inside=True)
                arguments[str(name)] = as_numbers(built) if isinstance(built, str) and _wants(hints, name) else built
        if value.get("_partial_"):
            return functools.partial(target, **arguments)
        return _call(target, arguments, key)


def _wants(hints: dict[str, Any], name: Any) -> bool:
    return name in hints and takes_number(hints[name])


def _call(target: Any, arguments: dict[str, Any], key: str) -> Any:
    try:
        with keys_below(key):
            return target(**arguments)
    except KdrobustError:
        raise
    except Exception as error:
        if not isinstance(error, _REJECTIONS) and type(error).__name__ != "MisconfigurationException":
            raise
        line = first_line(error)
        known = getattr(target, "keywords", {}) | arguments
        names_argument = any(line.startswith(f"{name}:") for name in known)
        separator = "." if names_argument and key else ": " if key else ""
        raise UsageError(f"{key}{separator}{line}") from error
