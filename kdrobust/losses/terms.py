"""From a term's YAML to a callable: which function, on whose outputs, with which numbers."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from kdrobust.losses import knowledge, prediction, schedules, weighting

#: Keys of a method that every one of its losses takes as a default where its signature has them.
SHARED = ("temperature", "reduction")
#: Views of an input: as it is, attacked (x'), and on the other side of x (x - δ where x' = x + δ).
VIEWS = ("clean", "adversarial", "mirror")


class ViewReference(NamedTuple):
    """One model's output on one view of the batch, e.g. `("teacher", "clean")`."""

    model: str
    view: str

    def __str__(self) -> str:
        return f"{self.model}.{self.view}"


class ViewSource(Protocol):
    """What an objective reads from: see `kdrobust.views.Views`."""

    @property
    def labels(self) -> Tensor:
        """True classes, [B]."""

    def logits(self, model: str, view: str) -> Tensor:
        """Logits of a model on a view, [B, K]."""


Number = float | Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A function of tensors whose inputs and numbers have been settled by a config.

    Attributes:
        function: the loss or weight.
        tensors: parameter name to the output it is fed.
        options: parameter name to its value, or to a schedule (a function of the epoch).
        takes_labels: whether the function wants the true classes.
    """

    function: Callable[..., Any]
    tensors: Mapping[str, ViewReference]
    options: Mapping[str, Any]
    takes_labels: bool

    def __call__(self, views: ViewSource, epoch: float) -> Any:
        """Evaluate on a batch."""
        arguments: dict[str, Any] = {name: views.logits(*reference) for name, reference in self.tensors.items()}
        if self.takes_labels:
            arguments["labels"] = views.labels
        arguments |= {name: value(epoch) if callable(value) else value for name, value in self.options.items()}
        return self.function(**arguments)


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """One line for a name nobody knows, with the nearest ones."""
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def public_functions(module: Any) -> dict[str, Callable[..., Any]]:
    """The public functions defined in a module itself."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name: item for name, item in members if item.__module__ == module.__name__ and not name.startswith("_")}


def find_function(name: object, modules: Sequence[Any], kind: str, trusted: Sequence[str]) -> Callable[..., Any]:
    """A function by its name in our modules, or by a dotted path into a package the user trusts.

    Raises:
        ValueError: nothing of that name, or a dotted path outside the trusted packages.
    """
    known = {key: item for module in modules for key, item in public_functions(module).items()}
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
        function = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}") from None
    if not callable(function):
        raise ValueError(f"{kind} {name!r} is not a function")
    return function  # type: ignore[no-any-return]


def read_number(value: Any, key: str, trusted: Sequence[str] = ()) -> Number:
    """A number, or a mapping `{schedule: NAME, ...}` turned into a function of the epoch.

    Raises:
        ValueError: neither, or a schedule that does not exist or does not take these values.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, Mapping) or "schedule" not in value:
        raise ValueError(f"{key}: expected a number, a fraction or a schedule, got {value!r}")
    try:
        function = find_function(value["schedule"], (schedules,), "schedule", trusted)
    except ValueError as error:
        raise ValueError(f"{key}.schedule: {error}") from None
    arguments = {name: item for name, item in value.items() if name != "schedule"}
    scheduled = _checked(function, arguments, key, skip=("epoch",))

    def at(epoch: float) -> float:
        return float(function(epoch, **scheduled))

    try:
        at(0.0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None
    return at


def _checked(
    function: Callable[..., Any], arguments: Mapping[str, Any], key: str, skip: Sequence[str] = ()
) -> dict[str, Any]:
    parameters = {name: item for name, item in inspect.signature(function).parameters.items() if name not in skip}
    for name in arguments:
        if name not in parameters:
            raise ValueError(f"{key}.{name}: {unknown('parameter', name, list(parameters))} ({function.__name__})")
    missing = [name for name, item in parameters.items() if item.default is item.empty and name not in arguments]
    if missing:
        raise ValueError(f"{key}: {function.__name__} needs {', '.join(missing)}")
    return dict(arguments)


def read_reference(parameter: str, value: Any, key: str) -> ViewReference:
    """`clean` for the parameter's own model, or `model.view` for another's."""
    model, _, view = str(value).rpartition(".")
    if view not in VIEWS:
        raise ValueError(f"{key}: {unknown('view', view, VIEWS)}")
    return ViewReference(model or parameter, view)


def bind(
    spec: Mapping[str, Any],
    *,
    slot: str,
    modules: Sequence[Any],
    key: str,
    shared: Mapping[str, Any] | None = None,
    reserved: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> Bound:
    """Read one mapping such as `{loss: soft_target, student: adversarial, teacher: clean, temperature: 4}`.

    A parameter without keyword-only marker is a tensor and wants a view; a keyword-only one is a number or option.

    Args:
        spec: the mapping.
        slot: its key that names the function (`loss`, `function`).
        modules: where that name is looked up.
        key: where the mapping stands in the config, for errors.
        shared: defaults for options the function happens to take.
        reserved: keys of the mapping that are not the function's.
        trusted: packages outside kdrobust that a dotted name may point into.

    Raises:
        ValueError: one line with the full key.
    """
    if slot not in spec:
        raise ValueError(f"{key}: expected a key '{slot}' that names a function")
    try:
        function = find_function(spec[slot], modules, slot, trusted)
    except ValueError as error:
        raise ValueError(f"{key}.{slot}: {error}") from None
    arguments = {name: value for name, value in spec.items() if name != slot and name not in reserved}
    parameters = inspect.signature(function).parameters
    arguments = {name: value for name, value in (shared or {}).items() if name in parameters} | arguments
    _checked(function, arguments, key, skip=("labels",))
    tensors, options = {}, {}
    for name, value in arguments.items():
        if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            tensors[name] = read_reference(name, value, f"{key}.{name}")
        elif isinstance(value, Mapping):
            options[name] = read_number(value, f"{key}.{name}", trusted)
        else:
            options[name] = _typed(value, parameters[name], f"{key}.{name}")
    bound = Bound(function=function, tensors=tensors, options=options, takes_labels="labels" in parameters)
    try:
        bound(_Probe(), 0.0)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    return bound


class _Probe:
    """Three made-up samples: a value no formula accepts is found before any data are read."""

    labels = torch.tensor([0, 1, 4])

    def logits(self, model: str, view: str) -> Tensor:
        shift = float(len(model) + len(view))
        return torch.sin(torch.arange(15.0) + shift).view(3, 5)


def _typed(value: Any, parameter: inspect.Parameter, key: str) -> Any:
    numeric = "float" in str(parameter.annotation)
    if numeric and not (value is None and "None" in str(parameter.annotation)):
        return read_number(value, key)
    return value


LOSS_MODULES = (prediction, knowledge)
WEIGHT_MODULES = (weighting,)
