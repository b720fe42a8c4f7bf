"""What a `_target_` names, and how it is found: nothing outside the packages its key takes it from is imported."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import UsageError

#: Packages of others, and ours: a trusted package may hand on what they define, but is none of them.
LIBRARIES = ("kdrobust", "torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics")
# where allowed packages keep what they hand on under their own names
_HOMES = ("lightning_fabric",)
_EXTRAS = ("timm", "tensorboard", "trackio")


def below(path: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted path is one of some prefixes, or lies below one."""
    return any(path == prefix or path.startswith(prefix + ".") for prefix in prefixes)


def refuse(path: Any, allowed: Sequence[str]) -> str | None:
    """Why a `_target_` may not be used, judged by its name alone; None if it may.

    Args:
        path: the value of `_target_`.
        allowed: dotted prefixes it may begin with.
    """
    if not isinstance(path, str) or not path:
        return f"expected a dotted path such as kdrobust.attacks.Threat, got {path!r}"
    pieces = path.split(".")
    if not all(piece.isidentifier() for piece in pieces):
        return f"{path!r} is not a dotted path"
    if any(piece.startswith("_") for piece in pieces):
        return f"{path}: private names are not allowed"
    if pieces[0] in sys.stdlib_module_names:
        return f"{path} is not allowed: the standard library is never a target, trusted or not"
    if not below(path, allowed):
        close = "" if pieces[0] in LIBRARIES else did_you_mean(pieces[0], LIBRARIES)
        return f"{path} is not allowed{close}"
    return None


def _home(value: Any) -> str | None:
    if isinstance(value, ModuleType):
        return value.__name__
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) else None


def _own(parent: Any, name: str, root: str) -> bool:
    """Whether a public name was made in the package it is found in, not imported there."""
    home = None if name.startswith("_") else _home(getattr(parent, name, None))
    return home is not None and home.split(".")[0] == root


def _import(path: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        root = name.split(".")[0]
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and missing in (root, *_EXTRAS):
            extra = f"pip install 'kdrobust[{missing}]'" if missing in _EXTRAS else f"install {missing}"
            raise UsageError(f"{path}: {missing} is not installed; {extra}") from None
        raise UsageError(f"{path}: importing {name} failed ({type(error).__name__}: {error})") from error


def locate(path: str, allowed: Sequence[str]) -> Any:
    """The object an allowed dotted path names.

    Every step is checked: a path that leaves the allowed packages through an imported module (`torch.nn.os.system`)
    is refused like one that names it directly, and so is one that reaches into a class or an object
    (`torch.nn.Module.load_state_dict`).

    Args:
        path: the value of `_target_`.
        allowed: dotted prefixes it may begin with; what it names may have been defined in any of `LIBRARIES`.

    Raises:
        UsageError: not allowed, not importable, or no such name; without the config key.
    """
    reason = refuse(path, allowed)
    if reason is not None:
        raise UsageError(reason)
    pieces = path.split(".")
    found: Any = _import(path, pieces[0])
    for depth, piece in enumerate(pieces[1:], start=1):
        above, here = ".".join(pieces[:depth]), ".".join(pieces[: depth + 1])
        if not isinstance(found, ModuleType):
            raise UsageError(f"{path} is not allowed: {above} is no module; name a class or function of a module")
        if not hasattr(found, piece) and _is_module(here):
            found = _import(path, here)
        else:
            try:
                found = getattr(found, piece)
            except AttributeError:
                names = [name for name in dir(found) if _own(found, name, pieces[0])]
                close = did_you_mean(piece, names, prefix=f"{above}.")
                raise UsageError(f"{above} has no {piece!r}{close}") from None
        home = _home(found)
        on_the_way = (
            isinstance(found, ModuleType) and home == here and any(name.startswith(here + ".") for name in allowed)
        )
        if home is not None and not on_the_way and not below(home, [*allowed, *LIBRARIES, *_HOMES]):
            raise UsageError(f"{path} is not allowed: it leads to {home}, outside {', '.join(allowed)}")
    if not callable(found):
        raise UsageError(f"{path} is not a class or function")
    return found


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def signature(target: Any) -> inspect.Signature | None:
    """What a target takes; None where Python cannot tell."""
    try:
        return inspect.signature(target)
    except (ValueError, TypeError):
        return None
