"""Compute a case with our losses and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdrobust.conformance.cases import Case
from kdrobust.conformance.recipes import Recipe, find_recipe
from kdrobust.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: the case.
        ours: our loss; None if the method is not known.
        errors: `loss` and every input with a gradient, to the relative error.
        tolerances: the same keys, to what is allowed.
        problem: why the case could not be computed, or "".
    """

    case: Case
    ours: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every figure lies within its tolerance."""
        return not self.problem and all(error <= self.tolerances[name] for name, error in self.errors.items())


@dataclass(frozen=True)
class _Outputs:
    """A `ViewSource` of given logits."""

    tensors: Mapping[str, Tensor]
    truth: Tensor | None

    @property
    def labels(self) -> Tensor:
        if self.truth is None:
            raise DataError("the case has no labels, but the method needs them")
        return self.truth

    def logits(self, model: str, view: str) -> Tensor:
        for name in (f"{model}_{view}", model):
            if name in self.tensors:
                return self.tensors[name]
        raise DataError(f"the case has no input {model}_{view}, but the method needs it")


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest entry of `theirs` (absolute where that is all zeros)."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = float((ours - theirs).abs().max())
    scale = float(theirs.abs().max())
    error = difference / scale if scale > 0 else difference
    return error if error == error else float("inf")


def _compare(case: Case, recipe: Recipe) -> tuple[float, dict[str, float]]:
    leaves = {name: value.clone().requires_grad_(name in case.gradients) for name, value in case.inputs.items()}
    loss = recipe.compute(case.hyperparameters, _Outputs(leaves, case.labels))
    wanted = list(case.gradients)
    given = torch.autograd.grad(loss, [leaves[name] for name in wanted], allow_unused=True) if wanted else ()
    errors: dict[str, float] = {}
    if case.loss is not None:
        errors["loss"] = relative_error(loss.detach(), torch.tensor(case.loss, dtype=torch.float64))
    for name, gradient in zip(wanted, given, strict=True):
        ours = torch.zeros_like(leaves[name]) if gradient is None else gradient
        theirs = case.gradients[name]
        errors[name] = relative_error(ours, torch.zeros_like(ours) if theirs is None else theirs)
    return float(loss.detach()), errors


def check_case(case: Case, tolerance: float = 1e-9) -> Outcome:
    """Compute one case in float64 and compare value and gradients.

    Args:
        case: the case.
        tolerance: relative error allowed; a method whose official code adds constants inside its logarithms has a
            wider one for the value (see `kdrobust.conformance.recipes`).
    """
    try:
        recipe = find_recipe(case.method)
        ours, errors = _compare(case, recipe)
    except (DataError, ValueError, TypeError) as error:
        return Outcome(case=case, problem=str(error))
    tolerances: dict[str, Any] = dict.fromkeys(errors, max(tolerance, recipe.gradient_tolerance))
    if "loss" in tolerances:
        tolerances["loss"] = max(tolerance, recipe.value_tolerance)
    return Outcome(case=case, ours=ours, errors=errors, tolerances=tolerances)
