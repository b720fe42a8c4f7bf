"""Knowledge losses that choose their temperature: by sample, by side, by learning, or by standardising the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.losses.knowledge import soft_target
from kdrobust.losses.numerics import check_temperature, kl_per_class, lift
from kdrobust.losses.transforms import zscore

_GUARDS = ("center", "none")


def logit_standardization(
    student: Tensor, teacher: Tensor, *, temperature: float = 2.0, min_std: float = 0.0
) -> Tensor:
    r"""Soft target on standardised logits: $T^2\, \mathrm{KL}(\sigma(z(t)/T) \,\|\, \sigma(z(s)/T))$, z as in `zscore`.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        temperature: T > 0.
        min_std: see `zscore`.

    Returns:
        [B], at least float32. The published weights are 0.1 for cross-entropy and 9 for this, at T = 2.

    Raises:
        ValueError: T is not positive.

    Source: Sun et al., CVPR 2024, arXiv:2403.01427.
    """
    return soft_target(zscore(student, min_std=min_std), zscore(teacher, min_std=min_std), temperature=temperature)


def _guarded(student: Tensor, teacher: Tensor, guard: str) -> tuple[Tensor, Tensor]:
    if guard not in _GUARDS:
        raise ValueError(f"guard must be center or none, got {guard!r}")
    if guard == "none":
        return student, teacher
    bad = ((student.amax(dim=1) <= 0) | (teacher.amax(dim=1) <= 0)).unsqueeze(1)
    # a class's logit is at most 0 when all are: without their mean the largest is positive, unless all are equal
    moved = [values - values.mean(dim=1, keepdim=True) for values in (student, teacher)]
    return torch.where(bad, moved[0], student), torch.where(bad, moved[1], teacher)


def dynamic_temperature(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = 3.0,
    beta: float = 1.0,
    guard: str = "center",
) -> Tensor:
    r"""Distillation at a temperature of each sample's own, on either side.

    $\alpha\, T_s T_t\, \mathrm{KL}(\sigma(t/T_t) \,\|\, \sigma(s/T_s)) + \beta\, T^2\, \mathrm{KL}(\sigma(t/T) \,\|\,
    \sigma(s/T))$ with $T_s = \frac{2u}{u+v} T$, $T_t = \frac{2v}{u+v} T$, $u = \max_j s_j$, $v = \max_j t_j$. The
    gradient flows through u in both temperatures. The value depends on a shift of the logits, and makes no sense where
    a maximum is not positive (a temperature below 0 inverts the distribution).

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        temperature: T > 0, the mean of both temperatures.
        alpha: weight of the dynamic part: 3 or 1 in the official recipes.
        beta: weight of the plain part: 1 or 0.5.
        guard: `center` subtracts each side's mean first in samples that have a maximum that is not positive; the others
            are computed as the official code does. `none` is the official code everywhere.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: T is not positive, or an unknown guard.

    Source: Wei & Bai 2024, arXiv:2404.12711; the authors have since retracted the derivation (eqs. 4 and 5).
    """
    check_temperature(temperature)
    own, target = _guarded(lift(student), lift(teacher), guard)
    u, v = own.amax(dim=1, keepdim=True), target.amax(dim=1, keepdim=True)
    if guard == "center":
        # all logits equal, even after centring: both temperatures are the plain one
        tiny = torch.finfo(u.dtype).tiny ** 0.5
        u, v = u.clamp(min=tiny), v.clamp(min=tiny)
    mine, theirs = 2.0 * u / (u + v) * temperature, 2.0 * v / (u + v) * temperature
    dynamic = kl_per_class(target / theirs, own / mine).sum(dim=1) * (mine * theirs).squeeze(1)
    plain = soft_target(student, teacher, temperature=temperature)
    return alpha * dynamic + beta * plain


def ttm(student: Tensor, teacher: Tensor, *, gamma: float = 0.1) -> Tensor:
    r"""Transformed teacher matching: $\mathrm{KL}(p^\gamma / \textstyle\sum p^\gamma \,\|\, \sigma(s))$, p = σ(t).

    The teacher is softened (its temperature is 1/γ), the student is not, and there is no T²: the term's weight (45 in
    the official recipes) plays its part. It is not zero at s = t.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        gamma: γ > 0, the exponent; 0.1 to 0.2 in the official recipes.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: γ is not positive.

    Source: Zheng & Yang, ICLR 2024, arXiv:2402.11148, eq. 12.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    return kl_per_class(gamma * F.log_softmax(lift(teacher), dim=1), lift(student)).sum(dim=1)


def wttm(student: Tensor, teacher: Tensor, *, gamma: float = 0.1) -> Tensor:
    r"""Weighted TTM: each sample's `ttm` times the power sum of the teacher, $\sum_j \sigma(t)_j^\gamma$.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        gamma: γ > 0, the exponent.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: γ is not positive.

    Source: Zheng & Yang, ICLR 2024, arXiv:2402.11148, eq. 15.
    """
    powers = (gamma * F.log_softmax(lift(teacher), dim=1)).exp().sum(dim=1)
    return powers * ttm(student, teacher, gamma=gamma)


def wsld(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 2.0) -> Tensor:
    r"""Weighted soft labels: $T^2 (1 - e^{-\mathrm{CE}_s / \mathrm{CE}_t})\, H(\sigma(t/T), \sigma(s/T))$.

    H is the soft *cross-entropy*, not KL; the weight is taken at temperature 1 and carries no gradient. It is small
    where the student already does better than the teacher.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        labels: true classes, [B] int64.
        temperature: T > 0.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: T is not positive.

    Source: Zhou et al., ICLR 2021, arXiv:2102.00650, eq. 9.
    """
    check_temperature(temperature)
    own, target = lift(student), lift(teacher)
    with torch.no_grad():
        mine, theirs = (F.cross_entropy(logits, labels, reduction="none") for logits in (own, target))
        weight = -torch.expm1(-mine / (theirs + 1e-7))
    soft = -(F.softmax(target / temperature, dim=1) * F.log_softmax(own / temperature, dim=1)).sum(dim=1)
    return temperature**2 * weight * soft


class _Reverse(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class CurriculumTemperature(nn.Module):
    r"""A temperature that is learnt against the student: $T^2\,\mathrm{KL}$ at $T = t_0 + t_1\, \sigma(\theta)$.

    θ's gradient is multiplied by λ: at λ = -1 the temperature climbs what the student descends. The gradient of T flows
    through the factor T² too, as in the official code.

    Args:
        t_start: $t_0$, the least temperature, positive.
        t_end: $t_1$, the range above it.
        raw_temperature: θ at the start.

    Raises:
        ValueError: the temperature could be 0 or below.

    Source: Li et al., AAAI 2023, arXiv:2211.16231.
    """

    def __init__(self, *, t_start: float = 1.0, t_end: float = 20.0, raw_temperature: float = 1.0) -> None:
        super().__init__()
        if not (t_start > 0 and t_start + t_end > 0):
            raise ValueError(f"t_start and t_start + t_end must be positive, got {t_start} and {t_start + t_end}")
        self.t_start = t_start
        self.t_end = t_end
        self.raw_temperature = nn.Parameter(torch.tensor(float(raw_temperature)))

    def temperature(self) -> Tensor:
        """T as it stands, []."""
        return self.t_start + self.t_end * self.raw_temperature.sigmoid()

    def forward(self, student: Tensor, teacher: Tensor, *, lambda_: float = -1.0) -> Tensor:
        """The loss, [B].

        Args:
            student: logits, [B, K].
            teacher: logits, [B, K].
            lambda_: factor on θ's gradient; the official recipe takes it from 0 to -1 on a cosine over 10 epochs.
        """
        reversed_: Tensor = _Reverse.apply(self.raw_temperature, lambda_)
        temperature = self.t_start + self.t_end * reversed_.sigmoid()
        return temperature**2 * kl_per_class(lift(teacher) / temperature, lift(student) / temperature).sum(dim=1)
