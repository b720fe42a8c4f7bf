"""One look at the goal from a point: its value, the logits behind it, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model
from kdrobust.attacks.goals import Climb, KLToFixed
from kdrobust.attacks.undisturbed import seed_generators
from kdrobust.errors import AttackError
from kdrobust.randomness import address

_NO_GRAPH = "the model's outputs have no gradient to its inputs (detach, no_grad or numpy inside?): remove what cuts it"


def look(
    model: Model, climb: Climb, point: Tensor, *, sign: float = 1.0, draws: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The goal [B] and the logits [B, K] at a point, without graph. Arguments as for `slope`."""
    with torch.no_grad():
        found = []
        for draw in range(draws):
            if draws > 1:
                seed_generators(point.device, address(seed, "draw", draw))
            logits = model(point)
            found.append((sign * climb(point, logits), logits))
    value, logits = (_mean([one[place] for one in found]) for place in (0, 1))
    return value, logits


def slope(
    model: Model, climb: Climb, point: Tensor, *, sign: float = 1.0, draws: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The goal, the logits and the goal's gradient at a point, all without graph.

    With several draws these are means over the model's own noise, $\frac1n \sum_i \nabla f(x'; \xi_i)$ (EOT), each
    drawn at its address.

    Args:
        model: inputs to logits.
        climb: the goal, bound to this batch.
        point: x', [B, ...].
        sign: -1 descends.
        draws: n >= 1; 1 leaves the generators where they are.
        seed: address of the draws.

    Returns:
        value [B], logits [B, K], gradient of the value's *sum* over the batch [B, ...], NaN read as 0.

    Raises:
        AttackError: the outputs do not depend on the inputs as far as autograd can see.

    Source: Athalye et al., ICML 2018, arXiv:1707.07397 (expectation over transformation).
    """
    if draws == 1:
        return _slope(model, climb, point, sign)
    found = []
    for draw in range(draws):
        seed_generators(point.device, address(seed, "draw", draw))
        found.append(_slope(model, climb, point, sign))
    value, logits, gradient = (_mean([one[place] for one in found]) for place in range(3))
    return value, logits, gradient


def uphill(model: Model, climb: Climb, point: Tensor, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """The logits and the goal's gradient as `slope` has them, where nobody asks what the goal is worth.

    Args: as of `slope`.

    Returns:
        logits [B, K], gradient [B, ...], NaN left as it is: a sign reads it as 0.

    Raises:
        AttackError: the outputs do not depend on the inputs as far as autograd can see.
    """
    point = point.detach().requires_grad_(True)
    logits = model(point)
    if isinstance(climb, KLToFixed):
        value, derivative = climb.pull(logits)
        derivative = derivative if sign > 0 else -derivative
    else:
        value = climb(point, logits)
        derivative = torch.full_like(value, sign)
    return logits.detach(), _gradient(value, point, derivative)


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)


def _slope(model: Model, climb: Climb, point: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor]:
    point = point.detach().requires_grad_(True)
    logits = model(point)
    value = climb(point, logits)
    gradient = _gradient(value, point, torch.full_like(value, sign))
    # a NaN stops its pixel for this step, not the sample for ever
    return sign * value.detach(), logits.detach(), gradient.nan_to_num(nan=0.0)


def _gradient(value: Tensor, point: Tensor, derivative: Tensor) -> Tensor:
    if not value.requires_grad:
        raise AttackError(_NO_GRAPH)
    (gradient,) = torch.autograd.grad(value, point, derivative, allow_unused=True)
    if gradient is None:
        raise AttackError(_NO_GRAPH)
    return gradient
