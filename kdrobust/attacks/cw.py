"""Carlini and Wagner's ℓ2 attack: distance plus c times a hinge, c by binary search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.goals import margin
from kdrobust.attacks.nearest import MinimumNorm, Nearest
from kdrobust.attacks.settings import count, number
from kdrobust.attacks.slope import slope
from kdrobust.attacks.threat import Threat
from kdrobust.errors import UsageError

#: How close to the box's ends, in (-1, 1), a pixel may begin: at the ends themselves tanh has no slope.
SLACK = 1e-6
#: Largest c a search without success goes to.
MOST = 1e10


class CarliniWagner(MinimumNorm):
    r"""Minimises $\|x' - x\|_2^2 + c \max(z_y - \max_{j \ne y} z_j + \kappa,\, 0)$ with Adam.

    $x' = \frac{lo + hi}{2} + \frac{hi - lo}{2} \tanh(w)$ never leaves the box. c is each sample's own: it grows tenfold
    until a round succeeds, then halves the interval between what failed and what succeeded.

    Args:
        threat: ℓ2 and the pixel range; its ε is the radius an evaluation judges by.
        steps: Adam steps a round >= 1.
        rounds: values of c tried >= 1.
        learning_rate: of Adam, in units of w.
        first_c: the first c > 0.
        confidence: κ >= 0, in units of logits.

    Raises:
        UsageError: a norm other than ℓ2, or a value outside its range; names the key.

    Source: Carlini & Wagner, S&P 2017, arXiv:1608.04644, section VI-A.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        steps: int = 1000,
        rounds: int = 9,
        learning_rate: float | str = 0.01,
        first_c: float | str = 1e-3,
        confidence: float | str = 0.0,
    ) -> None:
        if threat.norm != "l2":
            raise UsageError(f"threat.norm={threat.norm}: CW is an ℓ2 attack; use threat.norm=l2, or FMN for linf")
        super().__init__(threat=threat)
        self.steps = count("steps", steps, least=1)
        self.rounds = count("rounds", rounds, least=1)
        self.learning_rate = number("learning_rate", learning_rate, positive=True)
        self.first_c = number("first_c", first_c, positive=True)
        self.confidence = number("confidence", confidence)

    def _settings(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "learning_rate": self.learning_rate,
            "first_c": self.first_c,
            "confidence": self.confidence,
        }

    def _search(self, nearest: Nearest, logits: Tensor, *, seed: int) -> None:
        lower = torch.zeros_like(nearest.distance)
        upper = torch.full_like(lower, float("inf"))
        weight = torch.full_like(lower, self.first_c)
        for _ in range(self.rounds):
            fooled = self._descend(nearest, weight)
            upper = torch.where(fooled, torch.minimum(upper, weight), upper)
            lower = torch.where(fooled, lower, torch.maximum(lower, weight))
            weight = torch.where(upper.isfinite(), 0.5 * (lower + upper), (10.0 * weight).clamp(max=MOST))

    def _descend(self, nearest: Nearest, weight: Tensor) -> Tensor:
        """One round with these c, [B]; whether any of its points fools, [B] bool."""
        low, high = self.threat.box
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        samples = nearest.samples
        inputs = samples.inputs
        hidden = ((inputs - middle) / half * (1.0 - SLACK)).atanh()
        optimizer = torch.optim.Adam([hidden], lr=self.learning_rate)
        fooled = torch.zeros_like(weight, dtype=torch.bool)

        def gain(adversarial: Tensor, logits: Tensor) -> Tensor:
            return -weight * (self.confidence - margin(logits, samples.labels)).clamp(min=0.0)

        for _ in range(self.steps):
            squashed = hidden.tanh()
            point = middle + half * squashed
            _, logits, gradient = slope(samples.model, gain, point)
            fooled |= nearest.consider(self.threat.clip(point), logits)[0]
            hidden.grad = (2.0 * (point - inputs) - gradient) * half * (1.0 - squashed.square())
            optimizer.step()
        return fooled
