"""Finding what a YAML names: a function or a stateful class of ours, or one of a package the user trusts."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from kdrobust.losses import schedules


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A number that changes over the epochs.

    Attributes:
        function: of `kdrobust.losses.schedules`, or a user's own.
        arguments: what it is called with beside the epoch.
        name: what the YAML called it.
    """

    function: Callable[..., float]
    arguments: Mapping[str, Any]
    name: str

    def __call__(self, epoch: float) -> float:
        """The number at an epoch, fractions allowed."""
        return float(self.function(epoch, **self.arguments))

    def describe(self) -> dict[str, Any]:
        """As the YAML says it, resolved."""
        return {"schedule": self.name, **self.arguments}


Number = float | Schedule


def describe_value(value: Any) -> Any:
    """A number, option or schedule as plain values."""
    return value.describe() if isinstance(value, Schedule) else value


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """One line for a name nobody knows, with the nearest ones."""
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def public_functions(module: Any) -> dict[str, Callable[..., Any]]:
    """The public functions defined in a module itself."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name: item for name, item in members if item.__module__ == module.__name__ and not name.startswith("_")}


def public_classes(module: Any) -> dict[str, type[nn.Module]]:
    """The public stateful pieces (`nn.Module`s) defined in a module itself."""
    members = inspect.getmembers(module, lambda item: inspect.isclass(item) and issubclass(item, nn.Module))
    return {name: item for name, item in members if item.__module__ == module.__name__ and not name.startswith("_")}


def find_callable(name: object, modules: Sequence[Any], kind: str, trusted: Sequence[str]) -> Callable[..., Any]:
    """A function or class by its name in our modules, or by a dotted path into a package the user trusts.

    Raises:
        ValueError: nothing of that name, or a dotted path outside the trusted packages.
    """
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{kind}: expected a name, got {name!r}")
    known: dict[str, Callable[..., Any]] = {}
    for module in modules:
        known |= {**public_functions(module), **public_classes(module)}
    if name in known:
        return known[str(name)]
    package, _, attribute = str(name).rpartition(".")
    if not package:
        raise ValueError(unknown(kind, name, sorted(known)))
    if package.split(".")[0] not in trusted:
        raise ValueError(
            f"{kind} {name!r} lies outside kdrobust; allow it with trusted_modules=[{package.split('.')[0]}]"
        )
    try:
        found = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}") from None
    if not callable(found):
        raise ValueError(f"{kind} {name!r} is not a function")
    return found  # type: ignore[no-any-return]


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    key: str,
) -> None:
    """Refuse arguments a function does not take, and missing ones.

    Raises:
        ValueError: one line with the full key.
    """
    name = getattr(function, "__name__", str(function))
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(f"{key}.{argument}: {unknown('parameter', argument, list(parameters))} ({name})")
    missing = [each for each, item in parameters.items() if item.default is item.empty and each not in arguments]
    if missing:
        raise ValueError(f"{key}: {name} needs {', '.join(missing)}")


def read_number(value: Any, key: str, trusted: Sequence[str] = ()) -> Number:
    """A number, or a mapping `{schedule: NAME, ...}` turned into a `Schedule`.

    Raises:
        ValueError: neither, or a schedule that does not exist or does not take these values.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, Mapping) or "schedule" not in value:
        raise ValueError(f"{key}: expected a number, a fraction or a schedule, got {value!r}")
    try:
        function = find_callable(value["schedule"], (schedules,), "schedule", trusted)
    except ValueError as error:
        raise ValueError(f"{key}.schedule: {error}") from None
    arguments = {name: item for name, item in value.items() if name != "schedule"}
    parameters = {name: item for name, item in inspect.signature(function).parameters.items() if name != "epoch"}
    check_arguments(function, arguments, parameters, key)

    schedule = Schedule(function=function, arguments=arguments, name=str(value["schedule"]))
    try:
        schedule(0.0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None
    return schedule
