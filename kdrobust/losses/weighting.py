"""Per-sample weights: which samples a loss listens to.

Two kinds. A *sample weight* multiplies one term: tensors in, [B] out. A *weighting* shares the say between labels and
teacher sample by sample: tensors in, the pair (weight of the prediction terms, weight of the knowledge terms) out, each
[B]; it is the slot that `conf/weighting/` fills.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.losses.collective import global_max, global_mean, global_min
from kdrobust.losses.numerics import lift


def doubt(student: Tensor, labels: Tensor) -> Tensor:
    r"""How unsure the student is of the truth, $1 - \sigma(s)_y$: a sample weight with gradient, as MART uses it.

    Args:
        student: logits, [B, K].
        labels: true classes, [B] int64.

    Returns:
        [B] in [0, 1].

    Source: Wang et al., ICLR 2020 (MART), eq. 10.
    """
    return 1.0 - lift(student).softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)


def js_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Square root of the Jensen-Shannon divergence with base-2 logarithm: a metric in [0, 1].

    $\sqrt{\tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m)}$, $m = (p + q)/2$.

    Args:
        first: probabilities p, [B, K].
        second: probabilities q, [B, K].

    Returns:
        [B]. The divergence is clamped at 0 before its root: rounding can leave it at -1e-17.

    Source: Endres & Schindelin, IEEE Trans. Inf. Theory 49(7), 2003 (the metric property).
    """
    middle = 0.5 * (first + second)
    divergence = 0.5 * (torch.xlogy(first, first / middle) + torch.xlogy(second, second / middle))
    # 0/0 where neither distribution has mass: those classes contribute nothing
    divergence = torch.where(middle > 0, divergence, divergence.new_zeros(()))
    return (divergence.sum(dim=1) / torch.log(divergence.new_tensor(2.0))).clamp(0.0, 1.0).sqrt()


@torch.no_grad()
def trust(teacher: Tensor, labels: Tensor, *, beta: float = 0.1) -> Tensor:
    r"""How far the teacher is to be trusted on a sample: $\sigma(t)_y^\beta$, IAD's trust; a sample weight.

    Args:
        teacher: logits, usually on the student's adversarial example, [B, K].
        labels: true classes, [B] int64.
        beta: exponent >= 0; 0 trusts everything.

    Returns:
        [B] in [0, 1], without gradient.

    Raises:
        ValueError: β is negative.

    Source: Zhu et al., ICLR 2022, arXiv:2106.04928, eq. 4.
    """
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    log_probability = F.log_softmax(lift(teacher), dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    return (beta * log_probability).exp()


def distrust(teacher: Tensor, labels: Tensor, *, beta: float = 0.1) -> Tensor:
    """One minus `trust`: the say that goes back to the student itself.

    Args:
        teacher: logits, [B, K].
        labels: true classes, [B] int64.
        beta: exponent >= 0.

    Returns:
        [B] in [0, 1], without gradient.
    """
    return 1.0 - trust(teacher, labels, beta=beta)


@torch.no_grad()
def renyi_entropy(logits: Tensor, *, gamma: float = 2.0) -> Tensor:
    r"""Rényi entropy of the softmax, $\frac{1}{1-\gamma} \log \sum_j p_j^\gamma$ in nats; γ = 1 is Shannon's.

    Args:
        logits: [B, K].
        gamma: order γ > 0.

    Returns:
        [B] in [0, log K], without gradient.

    Raises:
        ValueError: γ is not positive.

    Source: Rényi, Fourth Berkeley Symposium, 1961.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    log_probabilities = F.log_softmax(lift(logits), dim=1)
    if abs(gamma - 1.0) < 1e-6:
        return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
    return (gamma * log_probabilities).logsumexp(dim=1) / (1.0 - gamma)


def renyi_weight(teacher: Tensor, *, gamma: float = 2.0, scale: float = 5.0) -> Tensor:
    r"""SAAD's weight: $w = c\,(H_\gamma(\sigma(t)) - \min H_\gamma)$, the minimum over the whole batch.

    An example on which the teacher itself is unsure transfers to it: such examples count more.

    Args:
        teacher: logits on the student's adversarial example, [B, K].
        gamma: order of the entropy.
        scale: c > 0.

    Returns:
        [B] >= 0, without gradient; 0 on the batch's surest sample.

    Source: Lee et al. 2026, arXiv:2512.10275.
    """
    entropy = renyi_entropy(teacher, gamma=gamma)
    return scale * (entropy - global_min(entropy))


def renyi_complement(teacher: Tensor, *, gamma: float = 2.0, scale: float = 5.0) -> Tensor:
    r"""SAAD's weight of the clean term: $1 - \hat w$, $\hat w$ being `renyi_weight` brought to [0, 1] over the batch.

    Args:
        teacher: logits on the student's adversarial example, [B, K].
        gamma: order of the entropy.
        scale: c > 0, of `renyi_weight` (1e-8 is added to the range it is divided by, as in the official code).

    Returns:
        [B] in [0, 1], without gradient; 1 everywhere where all samples are equally sure.
    """
    weight = renyi_weight(teacher, gamma=gamma, scale=scale)
    least = global_min(weight)
    return 1.0 - (weight - least) / (global_max(weight) - least + 1e-8)


def fixed(student: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
    """No weighting: α for the labels and 1 - α for the teacher, whatever the sample.

    Args:
        student: logits, [B, K]; only their shape, type and device are used.
        alpha: weight of the prediction loss, in [0, 1].
    """
    ones = torch.ones(len(student), dtype=lift(student).dtype, device=student.device)
    return alpha * ones, (1.0 - alpha) * ones


@torch.no_grad()
def distance_compensated(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    gamma: float = 1.0,
    beta: float = 1.0,
    delta: float = 1e-3,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""DTKD: two distances decide how a sample's knowledge is weighed.

    The way still to go, $d_i = \mathrm{JS}(\sigma(s_i), \sigma(t_i))$, is compensated by
    $w_i = (d_i + \delta)^\gamma / \mathrm{mean}_k (d_k + \delta)^\gamma$ (mean one over the whole batch). The teacher's
    reliability $r_i = 1 - \mathrm{JS}(\sigma(t_i), \mathrm{onehot}(y_i))$ moves weight back to the labels:
    $\alpha_i = 1 - (1 - \alpha)\, r_i^\beta$. Both distances are at temperature 1 and carry no gradient.

    Args:
        student: logits on the adversarial view, [B, K].
        teacher: logits on the clean view, [B, K].
        labels: true classes, [B] int64.
        alpha: weight of the labels where the teacher is fully reliable, in [0, 1].
        gamma: γ >= 0, strength of the compensation; 0 switches it off.
        beta: β >= 0, how fast trust falls with the teacher's distance from the truth; 0 switches it off.
        delta: keeps a sample at distance 0 from weight 0.
        cap: largest w, against outliers; None for none.

    Returns:
        ($\alpha_i$, $(1 - \alpha_i)\, w_i$), each [B]. γ = β = 0 gives (α, 1 - α) exactly.

    Raises:
        ValueError: γ, β or δ is negative.

    Source: this project's definition of "distance compensated knowledge distillation" (docs: README, DTKD).
    """
    if gamma < 0 or beta < 0 or delta < 0:
        raise ValueError(f"gamma, beta and delta must not be negative, got {gamma}, {beta}, {delta}")
    answer, target = lift(student).softmax(dim=1), lift(teacher).softmax(dim=1)
    powered = (js_distance(answer, target) + delta) ** gamma
    compensation = powered / global_mean(powered)
    if cap is not None:
        compensation = compensation.clamp(max=cap)
    truth = F.one_hot(labels, target.shape[1]).to(target.dtype)
    reliability = (1.0 - js_distance(target, truth)) ** beta
    # 1 - (1 - α) r, written so that r = 1 gives α to the last bit
    label_weight = (1.0 - reliability) + alpha * reliability
    return label_weight, (1.0 - alpha) * reliability * compensation
