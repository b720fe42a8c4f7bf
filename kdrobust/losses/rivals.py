"""Published relatives of DTKD's weighting, in the same slot: each shares the say between labels and teacher by sample.

All return (weight of the prediction terms, weight of the knowledge terms), each [B] and without gradient. `alpha` is
the labels' weight where a rule has nothing to say. Where a rule only ranks the samples, its weights are scaled to mean
one over the whole batch, so that only the distribution of the say differs between rivals and not its amount.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.losses.collective import global_mean, global_sum
from kdrobust.losses.numerics import lift
from kdrobust.losses.weighting import js_distance, renyi_weight, trust


def _scaled(weights: Tensor) -> Tensor:
    """Mean one over the whole batch; all ones where all weights are zero."""
    mean = global_mean(weights)
    return torch.where(mean > 0, weights / mean.clamp(min=torch.finfo(weights.dtype).tiny), torch.ones_like(weights))


def _shared(alpha: float, knowledge: Tensor) -> tuple[Tensor, Tensor]:
    return torch.full_like(knowledge, alpha), (1.0 - alpha) * knowledge


@torch.no_grad()
def by_trust(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, beta: float = 0.1
) -> tuple[Tensor, Tensor]:
    r"""IAD's trust: the teacher's say is $(1-\alpha)\,\sigma(t)_y^\beta$, and what it loses goes to the labels.

    IAD gives the lost part to the student itself; a weighting has two sides only, labels and teacher.

    Args:
        student: logits, [B, K]; not looked at.
        teacher: logits, [B, K].
        labels: true classes, [B] int64.
        alpha: weight of the labels where the teacher is fully trusted, in [0, 1].
        beta: exponent >= 0; 0 switches it off.

    Source: Zhu et al., ICLR 2022, arXiv:2106.04928, eq. 4.
    """
    say = (1.0 - alpha) * trust(teacher, labels, beta=beta)
    return 1.0 - say, say


@torch.no_grad()
def by_gap(student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
    r"""WSLD's weight $1 - e^{-\mathrm{CE}_s/\mathrm{CE}_t}$: the teacher's say falls where the student is better.

    Scaled to mean one. The loss it weighs here is the method's own, not WSLD's soft cross-entropy.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        labels: true classes, [B] int64.
        alpha: weight of the labels, in [0, 1].

    Source: Zhou et al., ICLR 2021, arXiv:2102.00650, eq. 9.
    """
    mine, theirs = (F.cross_entropy(lift(logits), labels, reduction="none") for logits in (student, teacher))
    return _shared(alpha, _scaled(-torch.expm1(-mine / (theirs + 1e-7))))


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    log_probabilities = F.log_softmax(lift(logits) / temperature, dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


@torch.no_grad()
def by_entropy(student: Tensor, teacher: Tensor, *, alpha: float, temperature: float = 4.0) -> tuple[Tensor, Tensor]:
    r"""Entropy weighting after EA-KD: samples on which teacher and student are unsure count more, $H(t)\,H(s)$.

    EA-KD reweighs by a combination of the teacher's and the student's entropy at a temperature; the plain product,
    scaled to mean one, is this project's reading of it.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        alpha: weight of the labels, in [0, 1].
        temperature: T > 0 of both entropies.

    Source: after Su et al. 2023, arXiv:2311.13621.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return _shared(alpha, _scaled(_entropy(teacher, temperature) * _entropy(student, temperature)))


@torch.no_grad()
def by_renyi(student: Tensor, teacher: Tensor, *, alpha: float, gamma: float = 2.0) -> tuple[Tensor, Tensor]:
    """SAAD's transferability proxy: samples on which the teacher is unsure count more (`renyi_weight`, mean one).

    Args:
        student: logits, [B, K]; not looked at.
        teacher: logits on the student's adversarial example, [B, K].
        alpha: weight of the labels, in [0, 1].
        gamma: order of the entropy.

    Source: Lee et al. 2026, arXiv:2512.10275.
    """
    return _shared(alpha, _scaled(renyi_weight(teacher, gamma=gamma, scale=1.0)))


class Triangle(nn.Module):
    r"""The triangle student, teacher, label decides who is listened to, after TGeo-KD, without its learnt network.

    All sides are square roots of the Jensen-Shannon divergence. The teacher's side for a sample is the nearer of its
    own answer and its mean answer on the class, which guards against outliers: $r_i = 1 - \min(d(t_i, y_i), d(\bar
    t_{y_i}, y_i))$. The teacher's say is $(1-\alpha)\,r_i\,w_i$ with $w_i \propto d(s_i, t_i) + d(s_i, y_i)$, mean
    one; the labels get $1 - (1-\alpha)\,r_i$. TGeo-KD *learns* the ratio from the same geometry by a small network in
    a bilevel problem; this closed form is this project's, and is meant as a rival in ablations.

    Args:
        alpha: weight of the labels where the teacher is fully reliable, in [0, 1].

    Source: after Hu et al., ICLR 2024, arXiv:2312.15112.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, *, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("sums", torch.zeros(0, 0))
        self.register_buffer("counts", torch.zeros(0))

    def prepare(self, *, classes: int) -> None:
        """Make room for the teacher's mean answers, K × K."""
        self.sums = self.sums.new_zeros(classes, classes)
        self.counts = self.counts.new_zeros(classes)

    @torch.no_grad()
    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of a batch.

        Args:
            student: logits, [B, K].
            teacher: logits, [B, K].
            labels: true classes, [B] int64.
        """
        answer, target = lift(student).softmax(dim=1), lift(teacher).softmax(dim=1)
        truth = F.one_hot(labels, target.shape[1]).to(target.dtype)
        off = js_distance(target, truth)
        if len(self.counts) == target.shape[1]:
            if self.training:
                self._learn(target, truth)
            known = self.counts[labels] > 0
            mean = (self.sums / self.counts.clamp(min=1.0).unsqueeze(1)).to(target.dtype)[labels]
            off = torch.where(known, torch.minimum(off, js_distance(mean, truth)), off)
        reliability = (1.0 - self.alpha) * (1.0 - off)
        weight = _scaled(js_distance(answer, target) + js_distance(answer, truth))
        return 1.0 - reliability, reliability * weight

    def _learn(self, target: Tensor, truth: Tensor) -> None:
        self.sums += global_sum(truth.t() @ target).to(self.sums.dtype)
        self.counts += global_sum(truth.sum(dim=0)).to(self.counts.dtype)
