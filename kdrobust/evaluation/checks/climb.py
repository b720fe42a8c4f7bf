"""The checks' own gradient ascent, written apart from the attacks on purpose: a check must not share their mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Goal = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(z)_y of each sample, [B]."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Max over j ≠ y of z_j, minus z_y: positive where the answer is wrong, [B]."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - own


def rescaled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits divided by their own spread, which no factor on the logits can saturate, [B]."""
    spread = (logits.amax(dim=1, keepdim=True) - logits.amin(dim=1, keepdim=True)).detach()
    return cross_entropy(logits / spread.clamp(min=torch.finfo(logits.dtype).tiny), labels)


GOALS: dict[str, Goal] = {"cross_entropy": cross_entropy, "margin": margin}


def input_gradient(model: nn.Module, inputs: Tensor, labels: Tensor, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, goal and the gradient of its sum at the inputs; zero where the graph does not reach them."""
    with torch.inference_mode(False), torch.enable_grad():
        x = inputs.clone().requires_grad_(True)
        logits = model(x)
        value = goal(logits, labels)
        gradient = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
    return logits.detach(), value.detach(), torch.zeros_like(inputs) if gradient is None else gradient


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Unit step of steepest ascent: the sign for ℓ∞, g/‖g‖ for ℓ2; not finite counts as 0."""
    gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    if norm == "linf":
        return gradient.sign()
    return gradient / per_sample(gradient.flatten(1).norm(dim=1).clamp(min=1e-12), gradient)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, 1, ...], to be broadcast against `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def into(
    points: Tensor, inputs: Tensor, *, norm: str, eps: float | Tensor, box: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """The points, brought into the ε-ball around the inputs, ε one for all or [B], and then into the box."""
    delta = points - inputs
    radius = torch.as_tensor(eps, dtype=inputs.dtype, device=inputs.device).expand(len(inputs))
    if norm == "linf":
        reach = per_sample(radius, inputs)
        delta = torch.minimum(torch.maximum(delta, -reach), reach)
    else:
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
        delta = delta * per_sample((radius / length).clamp(max=1.0), inputs)
    return (inputs + delta).clamp(*box)


@dataclass(frozen=True, kw_only=True)
class Path:
    """What a climb came by.

    Attributes:
        broken: [B] bool, answered wrongly at some point of the path, the start included.
        values: [B, steps + 1] the goal at every point; NaN after a sample was left behind.
        points: [B, ...] where each sample arrived.
    """

    broken: Tensor
    values: Tensor
    points: Tensor


def climb(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    norm: str,
    eps: float | Tensor,
    steps: int,
    stride: float,
    box: tuple[float, float] = (0.0, 1.0),
    goal: Goal = cross_entropy,
    begin: Tensor | None = None,
    leave: bool = True,
    batch_size: int = 128,
) -> Path:
    r"""Steps $x'_{k+1} = \Pi(x'_k + \alpha \cdot \mathrm{direction}(g_k))$ up a goal, judged at every point.

    Args:
        model: in eval mode.
        inputs: [B, ...] in the box.
        labels: [B] int64.
        norm: `linf` or `l2`.
        eps: radius, in the inputs' unit, one for all or [B].
        steps: how many.
        stride: α as a share of ε.
        box: the range of valid values.
        goal: what rises, [B] of logits and labels.
        begin: where to start, [B, ...]; at the inputs if not given.
        leave: leave a sample alone once it is broken: cheaper, and its verdict is settled.
        batch_size: samples at once.
    """
    radius = torch.as_tensor(eps, dtype=inputs.dtype, device=inputs.device).expand(len(labels))
    points = into(inputs if begin is None else begin, inputs, norm=norm, eps=radius, box=box)
    broken = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    values = torch.full((len(labels), steps + 1), torch.nan, device=labels.device)
    for rows in torch.split(torch.arange(len(labels), device=labels.device), batch_size):
        for step in range(steps + 1):
            if not len(rows):
                break
            logits, value, gradient = _look(model, points[rows], labels[rows], goal, last=step == steps)
            values[rows, step] = value.float()
            fell = logits.argmax(dim=1) != labels[rows]
            broken[rows[fell]] = True
            if leave:
                rows, gradient = rows[~fell], gradient[~fell]
            moved = points[rows] + per_sample(stride * radius[rows], inputs) * direction(gradient, norm)
            points[rows] = into(moved, inputs[rows], norm=norm, eps=radius[rows], box=box)
    return Path(broken=broken, values=values, points=points)


def _look(model: nn.Module, points: Tensor, labels: Tensor, goal: Goal, *, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    if not last:
        return input_gradient(model, points, labels, goal)
    with torch.no_grad():
        logits = model(points)
        # nothing moves any more
        return logits, goal(logits, labels), torch.zeros_like(points)
