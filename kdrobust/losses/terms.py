"""From a term's YAML to a callable: which function, on whose outputs, with which numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.losses import (
    balancing,
    classwise,
    correlation,
    decoupled,
    distances,
    features,
    knowledge,
    prediction,
    relations,
    rivals,
    tempered,
    transforms,
    weighting,
)
from kdrobust.losses.collective import gather
from kdrobust.losses.lookup import Schedule, check_arguments, describe_value, find_callable, read_number, unknown
from kdrobust.losses.numerics import full_precision
from kdrobust.losses.references import (
    FEATURES,
    INPUT_GRADIENT,
    LOGITS,
    ViewReference,
    ViewSource,
    read,
    read_tap,
    read_view,
)

LOSS_MODULES = (prediction, knowledge, decoupled, correlation, tempered, distances, features, relations, classwise)
WEIGHT_MODULES = (weighting, rivals, classwise)
BALANCE_MODULES = (balancing,)
#: Keys of a method that every one of its losses takes as a default where it has use for them.
SHARED = ("temperature", "reduction", "logits_transform")
SCOPES = ("local", "global")
#: Parameters that nobody has to name: what every batch has.
_AUTOMATIC = ("labels", "survived")
_WIRING = ("view", "detach", "logits_transform", "scope", "adapter")
_ADAPTERS = ("conv",)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A function of tensors whose inputs and numbers have been settled by a config.

    Attributes:
        function: the loss or weight; an `nn.Module` where it carries state.
        name: what the YAML called it.
        tensors: parameter name to the output it is fed.
        options: parameter name to its value, or to a schedule.
        made_with: what the constructor of a function with state was called with.
        automatic: which of `labels` and `survived` it wants.
        transform: applied to all logits first.
        scope: `local`, or `global`: every tensor is gathered over the processes first.
        adapter: kind of adapter its student features pass through, or "".
        key: where it stands in the config.
    """

    function: Callable[..., Any]
    name: str
    tensors: Mapping[str, ViewReference]
    options: Mapping[str, Any]
    made_with: Mapping[str, Any] = field(default_factory=dict)
    automatic: Sequence[str] = ()
    transform: Callable[[Tensor], Tensor] | None = None
    scope: str = "local"
    adapter: str = ""
    key: str = ""

    def __call__(self, views: ViewSource, epoch: float, adapter: nn.Module | None = None) -> Any:
        """Evaluate on a batch."""
        given = {name: read(views, reference) for name, reference in self.tensors.items()}
        given |= {name: getattr(views, name) for name in self.automatic}
        return self.apply(given, epoch, adapter)

    def apply(self, given: Mapping[str, Tensor], epoch: float, adapter: nn.Module | None = None) -> Any:
        """Evaluate on given tensors, by parameter name."""
        arguments: dict[str, Any] = dict(given)
        if self.scope == "global":
            arguments = {name: gather(value) for name, value in arguments.items()}
        if adapter is not None:
            arguments["student"], arguments["teacher"] = adapter(arguments["student"], arguments["teacher"])
        if self.transform is not None:
            for name, reference in self.tensors.items():
                if reference.kind == LOGITS:
                    arguments[name] = self.transform(arguments[name])
        arguments |= {
            name: value(epoch) if isinstance(value, Schedule) else value for name, value in self.options.items()
        }
        if not self._own:
            return self.function(**arguments)
        with full_precision(arguments.values()):
            return self.function(**arguments)

    @property
    def _own(self) -> bool:
        """Whether the function is of this package, and lifts what it is given; others are left to autocast."""
        made = type(self.function) if isinstance(self.function, nn.Module) else self.function
        return made.__module__.partition(".")[0] == __name__.partition(".")[0]

    def describe(self) -> dict[str, Any]:
        """Inputs and options as plain values."""
        options = {name: describe_value(value) for name, value in {**self.made_with, **self.options}.items()}
        wiring: dict[str, Any] = {"scope": self.scope} if self.scope != "local" else {}
        if self.transform is not None:
            wiring["logits_transform"] = getattr(self.transform, "__name__", "transform")
        return {**{name: str(reference) for name, reference in self.tensors.items()}, **options, **wiring}


@dataclass(frozen=True, kw_only=True)
class _Signature:
    """A callable's parameters, sorted by what they are."""

    tensors: Mapping[str, inspect.Parameter]
    automatic: Sequence[str]
    options: Mapping[str, inspect.Parameter]
    construction: Mapping[str, inspect.Parameter] = field(default_factory=dict)


def _signature(function: Callable[..., Any]) -> _Signature:
    stateful = inspect.isclass(function) and issubclass(function, nn.Module)
    called = function.forward if stateful else function  # type: ignore[attr-defined]
    parameters = {name: item for name, item in inspect.signature(called).parameters.items() if name != "self"}
    options = {name: item for name, item in parameters.items() if item.kind is inspect.Parameter.KEYWORD_ONLY}
    tensors = {name: item for name, item in parameters.items() if name not in options and name not in _AUTOMATIC}
    construction = dict(inspect.signature(function).parameters) if stateful else {}
    automatic = [name for name in _AUTOMATIC if name in parameters]
    return _Signature(tensors=tensors, automatic=automatic, options=options, construction=construction)


def kind_of(parameter: inspect.Parameter) -> str:
    """What a tensor parameter wants, told by its annotation: logits, features or an input gradient."""
    annotation = str(parameter.annotation)
    if "Features" in annotation:
        return FEATURES
    return INPUT_GRADIENT if "InputGradient" in annotation else LOGITS


def _detached(spec: Mapping[str, Any], tensors: Mapping[str, Any], key: str) -> set[str]:
    named = spec.get("detach", [])
    named = [named] if isinstance(named, str) else list(named or [])
    for name in named:
        if name not in tensors:
            raise ValueError(f"{key}.detach: {unknown('tensor', name, list(tensors))}")
    return set(named)


def _read_transform(value: Any, key: str, trusted: Sequence[str]) -> Callable[[Tensor], Tensor] | None:
    if value is None:
        return None
    spec = dict(value) if isinstance(value, Mapping) else {"function": value}
    try:
        function = find_callable(spec.pop("function", None), (transforms,), "transform", trusted)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    parameters = inspect.signature(function).parameters
    check_arguments(function, spec, {name: item for name, item in parameters.items() if name != "logits"}, key)

    def transform(logits: Tensor) -> Tensor:
        values: Tensor = function(logits, **spec)
        return values

    transform.__name__ = getattr(function, "__name__", "transform")
    return transform


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

    A parameter without keyword-only marker is a tensor and wants a view (annotated `Features`: a module path); a
    keyword-only one is a number or option. Of a stateful class, the constructor's keywords are options too.

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
        function = find_callable(spec[slot], modules, slot, trusted)
    except ValueError as error:
        raise ValueError(f"{key}.{slot}: {error}") from None
    takes = _signature(function)
    options = {**takes.construction, **takes.options}
    arguments = {name: value for name, value in spec.items() if name != slot and name not in (*reserved, *_WIRING)}
    arguments = {name: value for name, value in (shared or {}).items() if name in options} | arguments
    check_arguments(function, arguments, {**takes.tensors, **options}, key)
    detached = _detached(spec, takes.tensors, key)
    tensors, settled, construction = {}, {}, {}
    for name, value in arguments.items():
        full = f"{key}.{name}"
        if name in takes.tensors:
            kind = kind_of(takes.tensors[name])
            if kind == FEATURES:
                tensors[name] = read_tap(name, value, full, view=spec.get("view", "clean"), detached=name in detached)
            else:
                tensors[name] = read_view(name, value, full, kind=kind, detached=name in detached)
        elif name in takes.options:
            scheduled = isinstance(value, Mapping)
            settled[name] = read_number(value, full, trusted) if scheduled else _typed(value, options[name], full)
        else:
            construction[name] = _typed(value, options[name], full)
    if takes.construction or inspect.isclass(function):
        try:
            function = function(**construction)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{key}: {error}") from None
    bound = Bound(
        function=function,
        name=str(spec[slot]),
        tensors=tensors,
        options=settled,
        made_with=construction,
        automatic=takes.automatic,
        key=key,
    )
    bound = _wire(bound, spec, shared or {}, trusted)
    dry_run(bound)
    return bound


def _wire(bound: Bound, spec: Mapping[str, Any], shared: Mapping[str, Any], trusted: Sequence[str]) -> Bound:
    kinds = [reference.kind for reference in bound.tensors.values()]
    key = bound.key
    if "view" in spec and FEATURES not in kinds:
        raise ValueError(f"{key}.view: only losses on features read it; name the view at student and teacher")
    scope = spec.get("scope", "local")
    if scope not in SCOPES:
        raise ValueError(f"{key}.scope: {unknown('scope', scope, SCOPES)}")
    adapter = spec.get("adapter") or ""
    if adapter and (
        adapter not in _ADAPTERS or set(bound.tensors) != {"student", "teacher"} or set(kinds) != {FEATURES}
    ):
        raise ValueError(
            f"{key}.adapter: {adapter!r}; adapter: conv is for losses on one student's and one teacher's features"
        )
    chosen = spec.get("logits_transform")
    if chosen is None and kinds.count(LOGITS) > 1:
        # a method's transform is meant for what compares two models, not for the labels' loss
        chosen = shared.get("logits_transform")
    transform = _read_transform(chosen, f"{key}.logits_transform", trusted)
    return replace(bound, scope=scope, adapter=adapter, transform=transform)


def dry_run(bound: Bound, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Any:
    """Three made-up samples: a value no formula accepts is found before any data are read.

    Args:
        bound: what to try.
        shapes: a sample's shape by parameter, where it is known.

    Raises:
        ValueError: one line with the key.
    """
    if bound.adapter:
        return None
    usual = {LOGITS: (5,), FEATURES: (4, 4, 4), INPUT_GRADIENT: (1, 4, 4)}
    given: dict[str, Tensor] = {}
    for index, (name, reference) in enumerate(bound.tensors.items()):
        shape = (3, *(shapes or {}).get(name, usual[reference.kind]))
        given[name] = torch.sin(torch.arange(float(torch.Size(shape).numel())) + 3.0 * index).view(shape)
    given |= {"labels": torch.tensor([0, 1, 4])} if "labels" in bound.automatic else {}
    given |= {"survived": torch.tensor([0, 3, 7])} if "survived" in bound.automatic else {}
    module = bound.function if isinstance(bound.function, nn.Module) else None
    training = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        with torch.no_grad():
            # three samples of this process alone: nothing is gathered for a trial
            return replace(bound, scope="local").apply(given, 0.0)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{bound.key}: {str(error).splitlines()[0]}") from None
    finally:
        if module is not None:
            module.train(training)


def _typed(value: Any, parameter: inspect.Parameter, key: str) -> Any:
    annotation = str(parameter.annotation)
    if "float" in annotation and not (value is None and "None" in annotation) and not isinstance(value, list):
        return read_number(value, key)
    return value


def find_balance(
    spec: Mapping[str, Any], modules: Sequence[Any], key: str, trusted: Sequence[str]
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """A balance from its YAML: the module that keeps its state, what made it, and the options of every call.

    Raises:
        ValueError: one line with the full key.
    """
    try:
        factory = find_callable(spec.get("function"), modules, "balance", trusted)
    except ValueError as error:
        raise ValueError(f"{key}.function: {error}") from None
    takes = _signature(factory)
    given = {name: value for name, value in spec.items() if name != "function"}
    check_arguments(factory, given, {**takes.options, **takes.construction}, key)
    called = {
        name: read_number(value, f"{key}.{name}", trusted)
        for name, value in given.items()
        if name in takes.options and (isinstance(value, Mapping) or name not in takes.construction)
    }
    made = {
        name: _typed(value, takes.construction[name], f"{key}.{name}")
        for name, value in given.items()
        if name not in called
    }
    try:
        return factory(**made), made, called
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key}: {error}") from None
