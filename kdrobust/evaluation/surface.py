"""Slices of the loss surface: what an attack climbs, and what lies beside its path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kdrobust.evaluation.predict import eval_mode, predict, to_unit
from kdrobust.randomness import address, normal


@dataclass(frozen=True, kw_only=True)
class LossSurface:
    """The loss over planes through some samples.

    Attributes:
        steps: [P] coordinates along both directions, in lengths of the attack's step x' - x.
        loss: [N, P, P] cross-entropy in nats at x + a·d + b·r, [n, i, j] at b = steps[i] and a = steps[j].
        margin: [N, P, P] logit of the true class minus the largest other; above 0 the true class is predicted.
        labels: [N] int64.
        indices: [N] int64, the samples' keys.
        length: [N] ‖x' - x‖₂.
    """

    steps: NDArray[np.float64]
    loss: NDArray[np.float32]
    margin: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    length: NDArray[np.float64]


def loss_surface(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    *,
    keys: Tensor,
    seed: int,
    points: int = 25,
    reach: float = 1.25,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> LossSurface:
    """Cross-entropy over the plane of the attack's direction d = x' - x and a random direction r.

    r is Gaussian, made orthogonal to d and as long in ℓ2; points are clipped to the bounds. An attack that works climbs
    steeply along d and hardly along r. Cliffs, plateaus and noise on this map are the marks of masked gradients.

    Args:
        model: inputs to logits [B, K]; looked at in eval mode, every module's mode is restored after.
        inputs: [N, *shape], uint8, or floats within the bounds; a few samples.
        labels: [N] int64.
        adversarial: [N, *shape], x' within the bounds, floats.
        keys: [N] integers, e.g. sample indices: the address of r together with `seed`.
        seed: the address of the draws.
        points: P, at least 3.
        reach: the plane spans -reach .. reach lengths of d in both directions.
        batch_size: points at once; changes nothing.
        device: where to compute.
        bounds: (lo, hi) of valid values.

    Raises:
        ValueError: fewer than 3 points, a reach of 0 or less, or shapes that differ.
    """
    if points < 3 or not reach > 0:
        raise ValueError(f"expected at least 3 points and a reach above 0, got {points} and {reach}")
    if inputs.shape != adversarial.shape or not len(inputs) == len(labels) == len(keys):
        raise ValueError("expected as many inputs, labels, keys and adversarial inputs, of the same shape")
    model.to(device)
    steps = torch.linspace(-reach, reach, points, dtype=torch.float64)
    losses, margins, lengths = [], [], []
    with eval_mode(model):
        for row in range(len(inputs)):
            x = to_unit(inputs[row : row + 1], device)
            along = (adversarial[row : row + 1].to(device).float() - x).flatten()
            length = along.norm()
            side = _orthogonal(along, keys[row : row + 1].to(device), address(seed, "loss surface"))
            b, a = torch.meshgrid(steps.to(x), steps.to(x), indexing="ij")
            moves = a.reshape(-1, 1) * along + b.reshape(-1, 1) * side
            plane = (x.flatten() + moves).clamp(*bounds).view(-1, *x.shape[1:])
            logits = torch.cat([predict(model, piece) for piece in torch.split(plane, batch_size)])
            truth = labels[row].to(device).expand(len(logits))
            losses.append(functional.cross_entropy(logits, truth, reduction="none").view(points, points).cpu())
            own = logits[:, truth[0]].clone()
            logits[:, truth[0]] = -torch.inf
            margins.append((own - logits.amax(dim=1)).view(points, points).cpu())
            lengths.append(float(length))
    empty = torch.zeros(0, points, points)
    return LossSurface(
        steps=steps.numpy(),
        loss=(torch.stack(losses) if losses else empty).numpy(),
        margin=(torch.stack(margins) if margins else empty).numpy(),
        labels=labels.cpu().numpy().astype(np.int64),
        indices=keys.cpu().numpy().astype(np.int64),
        length=np.asarray(lengths, dtype=np.float64),
    )


def _orthogonal(along: Tensor, keys: Tensor, seed: int) -> Tensor:
    draw = normal(keys, along.shape, seed=seed, dtype=torch.float64)[0]
    direction = along.double()
    length = direction.norm()
    if length > 0:
        unit = direction / length
        draw = draw - (draw @ unit) * unit
    side: Tensor = draw / draw.norm().clamp(min=1e-12) * length
    return side.to(along.dtype)
