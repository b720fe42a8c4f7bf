"""Compute a case with our losses and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kdrobust.conformance.cases import Case
from kdrobust.conformance.recipes import Recipe, find_recipe
from kdrobust.conformance.special import expected_of
from kdrobust.errors import KdrobustError

#: How far ours must at least lie from a library's documented fault.
DIFFERENT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: the case.
        ours: our loss; None if the case has none, or the method is not known.
        errors: every number of the case to its relative error.
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
        """Whether every figure lies within its tolerance; for a documented fault, whether ours differs from it."""
        if self.problem or not self.errors:
            return False
        if self.case.unequal:
            return max(self.errors.values()) > DIFFERENT
        return all(error <= self.tolerances[name] for name, error in self.errors.items())


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest entry of `theirs` (absolute where that is all zeros)."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = float((ours - theirs).abs().max())
    scale = float(theirs.abs().max())
    error = difference / scale if scale > 0 else difference
    return error if error == error else float("inf")


def _tolerance(name: str, recipe: Recipe, tolerance: float) -> float:
    """A value may carry a constant of the official code, which also enters what is computed from values."""
    value = "loss" in name or "total" in name
    return max(tolerance, recipe.value_tolerance if value else recipe.gradient_tolerance)


def check_case(case: Case, tolerance: float = 1e-9) -> Outcome:
    """Compute one case in float64 and compare everything the file says of it.

    Args:
        case: the case.
        tolerance: relative error allowed; a method whose official code adds constants inside its logarithms has a
            wider one for the value (see `kdrobust.conformance.recipes`).
    """
    try:
        recipe = find_recipe(case.method)
        expected = {**case.expected, **expected_of(case)}
        ours = recipe.compute(case)
    except (KdrobustError, ValueError, TypeError) as error:
        return Outcome(case=case, problem=str(error))
    if not expected:
        return Outcome(case=case, problem="the case says nothing that could be compared")
    missing = [name for name in expected if name not in ours]
    if missing:
        return Outcome(case=case, problem=f"nothing here computes {', '.join(missing)}")
    errors = {name: relative_error(ours[name], theirs) for name, theirs in expected.items()}
    tolerances = {name: _tolerance(name, recipe, tolerance) for name in errors}
    loss = float(ours["loss"]) if "loss" in ours else None
    return Outcome(case=case, ours=loss, errors=errors, tolerances=tolerances)
