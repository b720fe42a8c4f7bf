"""Relation losses: how the samples of a batch lie to each other, in the student and in the teacher.

They relate samples, so they give one value a batch, []. With several processes the batch is a process's share, unless
the term says `scope: global`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.losses.features import Features
from kdrobust.losses.numerics import lift

#: Elements of the angle tensor computed at a time: the whole is B³.
_CHUNK = 2**22


def _flat(values: Tensor) -> Tensor:
    return lift(values).flatten(1)


def similarity_preserving(student: Features, teacher: Features) -> Tensor:
    r"""Similarity-preserving distillation.

    $\frac1{B^2} \|\mathrm{rownorm}_2(F_t F_t^\top) - \mathrm{rownorm}_2(F_s F_s^\top)\|_F^2$, F flattened a sample.

    Args:
        student: features, [B, ...].
        teacher: features, [B, ...]; any shape.

    Returns:
        [], at least float32. Weights of about 3000 are usual.

    Source: Tung & Mori, ICCV 2019, arXiv:1907.09682, eq. 4.
    """
    rows = [F.normalize(values @ values.t(), dim=1) for values in (_flat(student), _flat(teacher))]
    return (rows[1] - rows[0]).square().sum() / len(rows[0]) ** 2


def _distances(values: Tensor) -> Tensor:
    """Pairwise Euclidean distances divided by their mean over pairs that differ, [B, B]."""
    products = values @ values.t()
    squares = products.diagonal()
    squared = (squares.unsqueeze(0) + squares.unsqueeze(1) - 2.0 * products).clamp(min=0.0)
    # the root of 0 has an infinite gradient: coincident pairs keep their distance 0 and pass none
    apart = squared > torch.finfo(squared.dtype).eps * squares.max().clamp(min=1e-30)
    apart = apart & ~torch.eye(len(values), dtype=torch.bool, device=values.device)
    distances = torch.where(apart, torch.where(apart, squared, squared.new_ones(())).sqrt(), squared.new_zeros(()))
    return distances / (distances.sum() / apart.sum().clamp(min=1)).clamp(min=torch.finfo(squared.dtype).tiny)


def _directions(values: Tensor, anchors: Tensor) -> Tensor:
    """Unit vectors from anchors to all samples, [A, B, D]; 0 where both coincide."""
    difference = values.unsqueeze(0) - anchors.unsqueeze(1)
    squared = difference.square().sum(dim=2, keepdim=True)
    apart = squared > torch.finfo(squared.dtype).eps * values.square().sum(dim=1).max().clamp(min=1e-30)
    length = torch.where(apart, squared, squared.new_ones(())).sqrt()
    return torch.where(apart, difference / length, difference.new_zeros(()))


def relational(
    student: Features,
    teacher: Features,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    normalize: bool = False,
) -> Tensor:
    r"""Relational distillation: distances between pairs, and angles in triples of samples.

    $w_d\,\mathrm{mean}_{ij}\,h(d^s_{ij}, d^t_{ij}) + w_a\,\mathrm{mean}_{ijk}\,h(\cos^s_{ijk}, \cos^t_{ijk})$, h the
    smooth ℓ1 (β = 1), distances divided by their mean over pairs that differ; the zeros of the diagonal are in the
    outer mean. Coincident samples have distance and angle 0 and pass no gradient. A batch of one has no relation: 0.

    Args:
        student: features, [B, ...], flattened a sample.
        teacher: features, [B, ...]; any shape.
        distance_weight: $w_d$.
        angle_weight: $w_a$; 0 leaves out the B³ angles, which otherwise are computed in pieces.
        normalize: scale every sample's features to length 1 first (mmrazor's default).

    Returns:
        [], at least float32.

    Source: Park et al., CVPR 2019, arXiv:1904.05068, eqs. 5 and 8.
    """
    own, target = _flat(student), _flat(teacher)
    if normalize:
        own, target = F.normalize(own, dim=1), F.normalize(target, dim=1)
    loss = own.sum() * 0.0
    if len(own) < 2:
        return loss
    if distance_weight:
        loss = loss + distance_weight * F.smooth_l1_loss(_distances(own), _distances(target))
    if angle_weight:
        loss = loss + angle_weight * _angles(own, target)
    return loss


def _angles(own: Tensor, target: Tensor) -> Tensor:
    batch = len(own)
    total = own.new_zeros(())
    step = max(1, _CHUNK // (batch * max(batch, own.shape[1], target.shape[1])))
    for begin in range(0, batch, step):
        pieces = [_directions(values, values[begin : begin + step]) for values in (own, target)]
        cosines = [piece @ piece.transpose(1, 2) for piece in pieces]
        total = total + F.smooth_l1_loss(cosines[0], cosines[1], reduction="sum")
    return total / batch**3


def pkt(student: Features, teacher: Features, *, eps: float = 1e-7) -> Tensor:
    r"""Probabilistic knowledge transfer: how likely each sample takes another for its neighbour.

    Cosine similarities, moved to [0, 1] and scaled to row sum 1, are the probabilities p (teacher) and q (student); the
    value is $\mathrm{mean}_{ij}\, p_{ij} \log\frac{p_{ij} + \epsilon}{q_{ij} + \epsilon}$.

    Args:
        student: features, [B, ...], flattened a sample.
        teacher: features, [B, ...]; any shape.
        eps: ε, also inside the lengths, so that a zero vector passes a finite gradient.

    Returns:
        [], at least float32.

    Source: Passalis & Tefas, ECCV 2018, arXiv:1803.10837, eq. 9.
    """
    rows = []
    for values in (_flat(teacher), _flat(student)):
        squared = values.square().sum(dim=1, keepdim=True)
        apart = squared > 0
        length = torch.where(apart, squared, squared.new_ones(())).sqrt()
        unit = values / (length + eps)
        similarity = (unit @ unit.t() + 1.0) / 2.0
        rows.append(similarity / similarity.sum(dim=1, keepdim=True))
    p, q = rows
    return (p * torch.log((p + eps) / (q + eps))).mean()


def neighbour_congruence(student: Features, teacher: Features) -> Tensor:
    r"""What RepDistiller computes as correlation congruence: $\mathrm{mean}_i \sum_d |\Delta_{i,d}|\,|\Delta_{i+1,d}|$.

    $\Delta = f_s - f_t$, i and i + 1 neighbours in the batch: the value depends on the *order* of the samples, and it
    is not the paper's kernel. Here for comparison with that code.

    Args:
        student: features, [B, ...], flattened a sample.
        teacher: features of the same number of elements.

    Returns:
        [], at least float32; 0 for a batch of one.

    Raises:
        ValueError: the sizes differ.

    Source: RepDistiller's code; Peng et al., ICCV 2019, arXiv:1904.01802 is the paper.
    """
    own, target = _flat(student), _flat(teacher)
    if own.shape != target.shape:
        raise ValueError(f"needs equal sizes, got {own.shape[1]} and {target.shape[1]} elements a sample")
    difference = (own - target).abs()
    if len(difference) < 2:
        return difference.sum() * 0.0
    return (difference[:-1] * difference[1:]).sum(dim=1).mean()
