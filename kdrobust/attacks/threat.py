"""Threat models: what an attacker may change. A norm, a radius, and the box that pixels live in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdrobust import randomness
from kdrobust.attacks.rounding import rounded
from kdrobust.config.numbers import as_number
from kdrobust.errors import UsageError
from kdrobust.losses.numerics import lift

NORMS = ("linf", "l2")
STARTS = ("none", "uniform", "uniform_unclipped", "normal")
#: Standard deviation of the start `normal`, whatever ε: TRADES and the distillation methods after it.
NORMAL_SCALE = 0.001


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, 1, ...] to be broadcast against `like`."""
    return values.view(-1, *([1] * (like.dim() - 1)))


def l2_norm(values: Tensor) -> Tensor:
    """Euclidean norm of each sample, [B, 1, 1, ...]."""
    return per_sample(values.flatten(1).norm(dim=1), values)


@dataclass(frozen=True, kw_only=True)
class Threat:
    r"""The set $\{x' : \|x' - x\| \le \varepsilon,\; x' \in [lo, hi]\}$ and how to move in it.

    A relative threat bounds $\|x' - x\|_2 / \|x\|_2$ instead: the signal-to-noise ratio of every sample is at least
    $-20 \log_{10} \varepsilon$ decibels. Distances and step sizes are then shares of $\|x\|_2$ too.

    Attributes:
        norm: `linf` or `l2`.
        eps: radius ε >= 0 in the values' unit, a number or a fraction such as `"8/255"`.
        bounds: the box (lo, hi) of valid values: the same as the data's.
        relative: ε is a share of each sample's own ℓ2 norm; for `l2`, and for gradient attacks alone.

    Raises:
        UsageError: an unknown norm, a radius that is negative, no number, or (ℓ∞) larger than the box; empty bounds; a
            relative ℓ∞.
    """

    norm: str
    eps: float | str
    bounds: Sequence[float] = (0.0, 1.0)
    relative: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"threat.norm={self.norm}: no such norm; there are {', '.join(NORMS)}")
        try:
            radius = as_number(self.eps, "threat.eps")
        except ValueError as error:
            raise UsageError(str(error)) from None
        if radius < 0:
            raise UsageError(f"threat.eps={self.eps}: a radius is not negative; use 8/255, 0.1 ... or 0 for no attack")
        try:
            low, high = (as_number(bound, "threat.bounds") for bound in self.bounds)
        except (TypeError, ValueError):
            raise UsageError(f"threat.bounds={self.bounds}: expected two numbers such as [0, 1]") from None
        if not low < high:
            raise UsageError(f"threat.bounds={list(self.bounds)}: the lower bound must lie below the upper one")
        if self.norm == "linf" and radius > high - low:
            raise UsageError(f"threat.eps={self.eps}: larger than the pixels' range; did you mean {radius:g}/255?")
        if self.relative and self.norm != "l2":
            raise UsageError(f"threat.relative=true: a share of the signal's energy is bounded by l2, not {self.norm}")
        object.__setattr__(self, "eps", radius)
        object.__setattr__(self, "bounds", (low, high))

    @property
    def radius(self) -> float:
        """ε as a number, the same for every sample.

        Raises:
            UsageError: the threat is relative: there is no such number.
        """
        if self.relative:
            raise UsageError(
                "threat.relative=true: ε is a share of each sample's own norm, which this attack does not know; use "
                "attacks of the kind kdrobust.attacks.GradientAttack"
            )
        return float(self.eps)

    @property
    def box(self) -> tuple[float, float]:
        """The bounds as numbers."""
        low, high = self.bounds
        return float(low), float(high)

    def unit(self, inputs: Tensor) -> float | Tensor:
        """What ε and step sizes are counted in: 1, or each sample's ℓ2 norm as [B, 1, 1, ...] where relative."""
        return l2_norm(lift(inputs)) if self.relative else 1.0

    def project(self, adversarial: Tensor, inputs: Tensor, radius: float | Tensor) -> Tensor:
        """The nearest point of the ball around `inputs`, then of the box. For ℓ2 this order matters.

        Args:
            adversarial: [B, ...].
            inputs: clean x, [B, ...].
            radius: ε, or one a sample as [B, 1, 1, ...].
        """
        clean = lift(inputs)
        delta = lift(adversarial) - clean
        if self.norm == "linf":
            delta = delta.clamp(-radius, radius)  # type: ignore[arg-type]  # annotated for two numbers or two tensors
        else:
            delta = delta * (radius / l2_norm(delta).clamp(min=1e-12)).clamp(max=1.0)
        return self.narrow(self.clip(clean + delta), inputs, radius)

    def narrow(self, points: Tensor, inputs: Tensor, radius: float | Tensor) -> Tensor:
        """Points in the inputs' type; where that is half precision, rounding takes none out of ball or box.

        Args:
            points: [B, ...] in at least float32.
            inputs: clean x, [B, ...].
            radius: ε, or one a sample as [B, 1, 1, ...].
        """
        if inputs.dtype.itemsize >= 4:
            return points
        return rounded(points, inputs, norm=self.norm, radius=radius, box=self.box)

    def clip(self, values: Tensor) -> Tensor:
        """Into the box."""
        return values.clamp(*self.bounds)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        r"""The steepest ascent of length `size`: $\mathrm{sign}(g)$ for ℓ∞ (0 stays 0), $g / \|g\|_2$ for ℓ2.

        Args:
            gradient: [B, ...].
            size: α, or one a sample as [B, 1, 1, ...].
        """
        if self.norm == "linf":
            return size * gradient.sign()
        return size * gradient / l2_norm(gradient).clamp(min=1e-12)

    def ascend(
        self, point: Tensor, direction: Tensor, inputs: Tensor, size: float | Tensor, radius: float | Tensor
    ) -> Tensor:
        """A step and its projection: the bits of `project(point + step(direction, size), inputs, radius)`.

        For ℓ∞ in one buffer, which every pixel is read into once an operation instead of once a tensor.

        Args:
            point: where the climb stands, [B, ...].
            direction: the gradient, or what momentum made of it, [B, ...].
            inputs: clean x, [B, ...].
            size: α, or one a sample as [B, 1, 1, ...].
            radius: ε, or one a sample as [B, 1, 1, ...].
        """
        if self.norm != "linf" or inputs.dtype.itemsize < 4:
            return self.project(lift(point) + self.step(lift(direction), size), inputs, radius)
        moved = direction.sign().mul_(size).add_(point).sub_(inputs)
        moved.clamp_(-radius, radius)  # type: ignore[arg-type]  # annotated for two numbers or two tensors
        return moved.add_(inputs).clamp_(*self.box)

    def random_start(
        self, inputs: Tensor, kind: str, keys: Tensor, *, seed: int, scale: float | Tensor = 1.0
    ) -> Tensor:
        r"""Where the climb begins.

        `none` is x; `uniform` is uniform in the ball (ℓ2: direction uniform, radius $\varepsilon U^{1/d}$), clipped to
        the box; `uniform_unclipped` is the same before clipping (ARD); `normal` is x + 0.001·N(0, 1), unclipped
        (TRADES, RSLAD, AdaAD).

        Args:
            inputs: x, [B, ...].
            kind: see above.
            keys: [B] integers; a sample's noise depends on its key and the seed alone.
            seed: address of the draw.
            scale: factor on ε, or one a sample as [B, 1, 1, ...].

        Raises:
            UsageError: an unknown kind.
        """
        if kind not in STARTS:
            raise UsageError(f"attack.start={kind}: no such choice; there are {', '.join(STARTS)}")
        if kind == "none":
            return inputs.clone()
        clean = lift(inputs)
        shape, dtype = inputs.shape[1:], clean.dtype
        radius = float(self.eps) * self.unit(inputs) * scale
        if kind == "normal":
            noise = NORMAL_SCALE * randomness.normal(keys, shape, seed=seed, dtype=dtype)
            return self.narrow(clean + noise, inputs, radius)
        if self.norm == "linf":
            noise = radius * (2.0 * randomness.uniform(keys, shape, seed=seed, dtype=dtype) - 1.0)
        else:
            direction = randomness.normal(keys, shape, seed=seed, dtype=dtype)
            share = randomness.uniform(keys, (1,), seed=randomness.address(seed, "radius share"), dtype=dtype)
            length = per_sample(share ** (1.0 / math.prod(shape)), inputs)
            noise = radius * length * direction / l2_norm(direction).clamp(min=1e-12)
        start = clean + noise
        return self.narrow(start if kind == "uniform_unclipped" else self.clip(start), inputs, radius)

    def distance(self, adversarial: Tensor, inputs: Tensor) -> Tensor:
        """How far each sample was moved, [B], in this threat's norm and unit."""
        delta = (lift(adversarial) - lift(inputs)).flatten(1)
        if self.norm == "linf":
            return delta.abs().amax(dim=1)
        length: Tensor = delta.norm(dim=1)
        if self.relative:
            length /= lift(inputs).flatten(1).norm(dim=1).clamp(min=1e-12)
        return length

    def describe(self) -> dict[str, Any]:
        """Plain values, for result files."""
        relative = {"relative": True} if self.relative else {}
        return {"norm": self.norm, "eps": float(self.eps), "bounds": list(self.bounds), **relative}


def default_keys(inputs: Tensor) -> Tensor:
    """Keys of a batch whose samples have no address of their own: their place in it."""
    return torch.arange(len(inputs), device=inputs.device)
