"""Which of our methods or losses answers for which name in a vector file, and what their hyper-parameters are here.

A method is computed from its own YAML, so that what is proved is what a user runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdrobust.config import compose_group
from kdrobust.losses import Objective, ObjectiveResult
from kdrobust.losses.terms import LOSS_MODULES, ViewSource, public_functions, unknown

#: Words of the vector files that describe a convention and set nothing.
_REMARKS = ("alpha_weighs",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a case is computed.

    Attributes:
        compute: hyper-parameters as the file names them, and the given outputs, to the loss.
        value_tolerance: relative error allowed on the value beyond the common tolerance.
        gradient_tolerance: the same for gradients.
    """

    compute: Callable[[Mapping[str, Any], ViewSource], Tensor]
    value_tolerance: float = 0.0
    gradient_tolerance: float = 0.0


def reduction(text: str) -> str:
    """The vector files' prose about a mean, as our switch."""
    return "classes_mean" if "batch and classes" in text.lower() else "classes_sum"


def _method(option: str, keys: Mapping[str, str]) -> Callable[[Mapping[str, Any], ViewSource], Tensor]:
    def compute(hyperparameters: Mapping[str, Any], outputs: ViewSource) -> Tensor:
        overrides = []
        for name, value in hyperparameters.items():
            if name in _REMARKS:
                continue
            if name not in keys:
                raise ValueError(unknown("hyper-parameter", name, sorted(keys)))
            overrides.append(f"{keys[name]}={reduction(value) if name == 'reduction' else value}")
        method = compose_group("method", option, overrides)
        result: ObjectiveResult = Objective.from_method(method)(outputs)
        return result.loss

    return compute


def _loss(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any], ViewSource], Tensor]:
    parameters = inspect.signature(function).parameters

    def compute(hyperparameters: Mapping[str, Any], outputs: ViewSource) -> Tensor:
        for name in hyperparameters:
            if name not in parameters:
                raise ValueError(unknown("hyper-parameter", name, list(parameters)))
        tensors = {name: outputs.logits(name, "clean") for name in parameters if name in ("student", "teacher")}
        if "labels" in parameters:
            tensors["labels"] = outputs.labels
        return function(**tensors, **hyperparameters).mean()

    return compute


_ALPHA = {"alpha": "method.alpha", "reduction": "method.reduction"}

_METHODS = {
    "rslad": Recipe(
        compute=_method(
            "rslad",
            {
                "weight_adversarial": "method.terms.adversarial.weight",
                "weight_clean": "method.terms.clean.weight",
                "temperature": "method.temperature",
                "reduction": "method.reduction",
            },
        ),
        # the official value has 1e-5 added inside the teacher's logarithm, a constant without gradient
        value_tolerance=1e-3,
    ),
    "ard": Recipe(compute=_method("ard", {**_ALPHA, "temperature": "method.temperature"})),
    "adaad": Recipe(compute=_method("adaad", {**_ALPHA, "temperature": "method.temperature"})),
    "trades": Recipe(compute=_method("trades", {"beta": "method.beta"})),
    # the official code adds 1e-12 inside two logarithms
    "mart": Recipe(compute=_method("mart", {"beta": "method.beta"}), value_tolerance=1e-6, gradient_tolerance=1e-6),
}


def known_methods() -> list[str]:
    """Every name that can be checked: the methods above, and each loss function by its own name."""
    losses = [name for module in LOSS_MODULES for name in public_functions(module)]
    return sorted({*_METHODS, *losses})


def find_recipe(name: str) -> Recipe:
    """The recipe for a name in a vector file.

    Raises:
        ValueError: nobody here answers for that name.
    """
    if name in _METHODS:
        return _METHODS[name]
    for module in LOSS_MODULES:
        functions = public_functions(module)
        if name in functions:
            return Recipe(compute=_loss(functions[name]))
    raise ValueError(unknown("method", name, known_methods()))
