"""DDN: direction and norm of the perturbation decoupled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.goals import GOALS
from kdrobust.attacks.nearest import MinimumNorm, Nearest, cosine
from kdrobust.attacks.settings import count, number
from kdrobust.attacks.slope import look, slope
from kdrobust.attacks.threat import Threat, l2_norm, per_sample
from kdrobust.errors import UsageError


class DDN(MinimumNorm):
    r"""Decoupled direction and norm, ℓ2.

    Each step adds α g/‖g‖₂ to the perturbation, g the gradient of the cross-entropy, and puts it on the sphere of the
    sample's own radius, which shrinks by 1 - γ where the last point fools and grows by 1 + γ where it does not. α falls
    along half a cosine to 1 % of its first value.

    Args:
        threat: ℓ2 and the pixel range; its ε is the radius an evaluation judges by.
        steps: gradient steps >= 1.
        step_size: first α, in pixels' units.
        gamma: γ in (0, 1).
        first_radius: the first radius, in pixels' units.

    Raises:
        UsageError: a norm other than ℓ2, or a value outside its range; names the key.

    Source: Rony et al., CVPR 2019, arXiv:1811.09600, algorithm 1.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        steps: int = 1000,
        step_size: float | str = 1.0,
        gamma: float | str = 0.05,
        first_radius: float | str = 1.0,
    ) -> None:
        if threat.norm != "l2":
            raise UsageError(f"threat.norm={threat.norm}: DDN is an ℓ2 attack; use threat.norm=l2, or FMN for linf")
        super().__init__(threat=threat)
        self.steps = count("steps", steps, least=1)
        self.step_size = number("step_size", step_size, positive=True)
        self.gamma = number("gamma", gamma, positive=True, most=0.99)
        self.first_radius = number("first_radius", first_radius, positive=True)

    def _settings(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "gamma": self.gamma,
            "first_radius": self.first_radius,
        }

    def _search(self, nearest: Nearest, logits: Tensor, *, seed: int) -> None:
        samples = nearest.samples
        climb = samples.bind(GOALS["cross_entropy"])
        inputs, point = samples.inputs, samples.inputs
        radius = torch.full_like(nearest.distance, self.first_radius)
        for step in range(self.steps):
            _, logits, gradient = slope(samples.model, climb, point)
            wrong, _ = nearest.consider(point, logits)
            # x itself is no answer: the first step keeps the first radius
            factor = torch.where(wrong, 1.0 - self.gamma, 1.0 + self.gamma) if step else 1.0
            radius = radius * factor
            moved = (
                point
                - inputs
                + self.threat.step(gradient, cosine(self.step_size, 0.01 * self.step_size, step, self.steps))
            )
            moved = per_sample(radius, moved) * moved / l2_norm(moved).clamp(min=1e-12)
            point = self.threat.clip(inputs + moved)
        nearest.consider(point, look(samples.model, climb, point)[1])
