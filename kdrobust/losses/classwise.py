"""What is kept a class: weights that favour classes that fall early, temperatures that sharpen those still erred on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.losses.collective import global_sum
from kdrobust.losses.numerics import kl_per_class, lift, reduce_classes


def class_weights(kappa: Tensor, *, beta: float = 2.0, clamp: Sequence[float] = (5 / 6, 5 / 2)) -> Tensor:
    r"""Fair weights: $w_c \propto (1/\bar\kappa_c)^\beta$, scaled to sum K, then clamped.

    Args:
        kappa: mean number of attack steps that a class's samples survive, [K], positive.
        beta: β >= 0; 0 gives equal weights.
        clamp: least and largest weight.

    Returns:
        [K].

    Source: Yue et al., NeurIPS 2023 (Fair-ARD), eq. 6; the clamp is the official code's.
    """
    # a class that never survives a step would take all the weight to infinity; the clamp decides in either case
    raised = kappa.clamp(min=torch.finfo(kappa.dtype).eps) ** -beta
    return (raised * (len(kappa) / raised.sum())).clamp(clamp[0], clamp[1])


def class_temperatures(
    class_losses: Tensor, before: Tensor, *, rate: float = 0.1, minimum: float = 0.5, maximum: float = 5.0
) -> Tensor:
    r"""One step of ABSLD's temperatures.

    $\tau_c \leftarrow \mathrm{clamp}(\tau_c - \eta (L_c - \bar L)/\max|L - \bar L|)$.

    A class with a larger loss than the mean gets a lower temperature: sharper labels, a stronger pull.

    Args:
        class_losses: $L_c$, each class's total cross-entropy over an epoch, [K].
        before: τ, [K].
        rate: η > 0.
        minimum: least temperature.
        maximum: largest temperature.

    Returns:
        [K]; unchanged where all classes' losses are equal.

    Source: Zhao et al. 2024, arXiv:2312.05508, eq. 10.
    """
    gap = class_losses - class_losses.mean()
    largest = gap.abs().max()
    direction = torch.where(largest > 0, gap / largest.clamp(min=torch.finfo(gap.dtype).tiny), torch.zeros_like(gap))
    return (before - rate * direction).clamp(minimum, maximum)


class FairClassWeights(nn.Module):
    """Fair-ARD's sample weight: its class's `class_weights`, refreshed each epoch from the last one's survived steps.

    Until the first epoch has ended every weight is 1; a class that an epoch did not see keeps weight 1. Statistics are
    of all processes and only collected in training.

    Args:
        beta: see `class_weights`.
        clamp: least and largest weight.

    Raises:
        ValueError: β is negative, or the clamp is no range.

    Source: Yue et al., NeurIPS 2023 (Fair-ARD).
    """

    weights: Tensor
    steps: Tensor
    counts: Tensor

    def __init__(self, *, beta: float = 2.0, clamp: Sequence[float] = (5 / 6, 5 / 2)) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        if len(clamp) != 2 or not 0 < clamp[0] <= clamp[1]:
            raise ValueError(f"clamp must be a range [least, largest] of positive weights, got {list(clamp)}")
        self.beta = beta
        self.clamp = (float(clamp[0]), float(clamp[1]))
        for name in ("weights", "steps", "counts"):
            self.register_buffer(name, torch.zeros(0))

    def prepare(self, *, classes: int) -> None:
        """Every class begins with weight 1."""
        self.weights = self.weights.new_ones(classes)
        self.steps = self.steps.new_zeros(classes)
        self.counts = self.counts.new_zeros(classes)

    @torch.no_grad()
    def forward(self, labels: Tensor, survived: Tensor) -> Tensor:
        """The samples' weights, [B].

        Args:
            labels: true classes, [B] int64.
            survived: attack steps each sample withstood, [B].
        """
        if not len(self.weights):
            return torch.ones(len(labels), device=labels.device)
        if self.training:
            truth = F.one_hot(labels, len(self.weights)).to(self.steps.dtype)
            seen = torch.stack([truth.t() @ survived.to(truth.dtype), truth.sum(dim=0)])
            seen = global_sum(seen)
            self.steps += seen[0]
            self.counts += seen[1]
        return self.weights[labels]

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Take the epoch's mean numbers of survived steps, and begin to count anew."""
        seen = self.counts > 0
        if bool(seen.any()):
            fresh = torch.ones_like(self.weights)
            fresh[seen] = class_weights(self.steps[seen] / self.counts[seen], beta=self.beta, clamp=self.clamp)
            self.weights = fresh
        self.steps = torch.zeros_like(self.steps)
        self.counts = torch.zeros_like(self.counts)


class ClassTemperedTarget(nn.Module):
    r"""ABSLD's loss: $\mathrm{KL}(\sigma(t/\tau_y) \,\|\, \sigma(s))$ with a teacher's temperature τ a class.

    All temperatures begin at 1; at the end of each epoch they take the step of `class_temperatures` on the classes'
    total cross-entropies of the student, over all processes.

    Args:
        minimum: least temperature.
        maximum: largest temperature.
        reduction: `classes_sum` is the definition; `classes_mean` (1/K of it) is the official code's.

    Raises:
        ValueError: no positive range of temperatures, or an unknown reduction.

    Source: Zhao et al. 2024, arXiv:2312.05508, eqs. 8 to 10.
    """

    temperatures: Tensor
    losses: Tensor

    def __init__(self, *, minimum: float = 0.5, maximum: float = 5.0, reduction: str = "classes_sum") -> None:
        super().__init__()
        if not 0 < minimum <= maximum:
            raise ValueError(f"minimum and maximum must be positive and in order, got {minimum} and {maximum}")
        reduce_classes(torch.zeros(1, 1), reduction)
        self.minimum = minimum
        self.maximum = maximum
        self.reduction = reduction
        self._rate = 0.1
        self.register_buffer("temperatures", torch.zeros(0))
        self.register_buffer("losses", torch.zeros(0))

    def prepare(self, *, classes: int) -> None:
        """Every class begins at temperature 1."""
        self.temperatures = self.temperatures.new_ones(classes)
        self.losses = self.losses.new_zeros(classes)

    def target(self, teacher: Tensor, labels: Tensor) -> Tensor:
        r"""The teacher's logits as this loss uses them, $t/\tau_y$: what the attack climbs away from, too.

        Args:
            teacher: logits, [B, K].
            labels: true classes, [B] int64.
        """
        values = lift(teacher)
        if not len(self.temperatures):
            return values
        return values / self.temperatures.to(values.dtype)[labels].unsqueeze(1)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, *, rate: float = 0.1) -> Tensor:
        """The loss, [B].

        Args:
            student: logits, [B, K].
            teacher: logits, [B, K].
            labels: true classes, [B] int64.
            rate: η of the step at the end of this epoch; the official code divides it by 10 with the learning rate.
        """
        own = lift(student)
        if self.training and len(self.losses):
            self._rate = rate
            with torch.no_grad():
                each = F.cross_entropy(own, labels, reduction="none")
                truth = F.one_hot(labels, len(self.losses)).to(each.dtype)
                self.losses += global_sum(truth.t() @ each).to(self.losses.dtype)
        return reduce_classes(kl_per_class(self.target(teacher, labels), own), self.reduction)

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Take a step of the temperatures, and begin to sum anew."""
        if len(self.losses):
            limits = {"minimum": self.minimum, "maximum": self.maximum}
            self.temperatures = class_temperatures(self.losses, self.temperatures, rate=self._rate, **limits)
            self.losses = torch.zeros_like(self.losses)
