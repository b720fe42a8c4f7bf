"""Correlation losses: how the student's answers relate to each other, over classes and over the batch.

They relate samples to each other, so they give one value a batch, [].
"""

from __future__ import annotations

from torch import Tensor

from kdrobust.losses.numerics import check_temperature, lift

_EPS = 1e-8


def _pearson(first: Tensor, second: Tensor, least: float) -> Tensor:
    """Correlation of the rows, [N]; a row shorter than `least` is scaled as if it had that length."""
    centred = [values - values.mean(dim=1, keepdim=True) for values in (first, second)]
    lengths = [_length(values).clamp(min=least) if least else _length(values) for values in centred]
    return (centred[0] * centred[1]).sum(dim=1) / (lengths[0] * lengths[1] + _EPS)


def _length(values: Tensor) -> Tensor:
    length: Tensor = values.norm(dim=1)
    return length


def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    min_norm: float = 0.0,
) -> Tensor:
    r"""DIST: the student's probabilities correlate with the teacher's, sample by sample and class by class.

    $T^2\left[\beta\,(1 - \mathrm{mean}_i\, \rho(q_i, p_i)) + \gamma\,(1 - \mathrm{mean}_j\, \rho(q_{\cdot j},
    p_{\cdot j}))\right]$, ρ Pearson's correlation, p and q the softmax of teacher and student at temperature T. 1e-8
    in ρ's denominator (the official code's) leaves 4e-6, not 0, at q = p.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        beta: weight of the relation between classes.
        gamma: weight of the relation between samples; a batch of one has none, its term is left out.
        temperature: T > 0.
        min_norm: least length of a centred vector; above 0 (1e-3, say) constant answers, as of a head that starts at
            zero, cannot blow the gradient up to millions. 0 is the official code.

    Returns:
        [], at least float32.

    Raises:
        ValueError: T is not positive.

    Source: Huang et al., NeurIPS 2022, arXiv:2205.10536, eqs. 6 to 10.
    """
    check_temperature(temperature)
    own, target = (lift(student) / temperature).softmax(dim=1), (lift(teacher) / temperature).softmax(dim=1)
    loss = beta * (1.0 - _pearson(own, target, min_norm).mean())
    if len(own) > 1:
        loss = loss + gamma * (1.0 - _pearson(own.t(), target.t(), min_norm).mean())
    return temperature**2 * loss


def class_correlation(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    r"""Class correlation of multi-level distillation: $\|P_t^\top P_t - P_s^\top P_s\|_F^2 / K$, without T².

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        temperature: T > 0 of both softmaxes P.

    Returns:
        [], at least float32.

    Raises:
        ValueError: T is not positive.

    Source: Jin, Wang & Lin, CVPR 2023 (MLKD), eq. 5.
    """
    check_temperature(temperature)
    own, target = (lift(student) / temperature).softmax(dim=1), (lift(teacher) / temperature).softmax(dim=1)
    return (target.t() @ target - own.t() @ own).square().sum() / own.shape[1]


def batch_correlation(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    r"""Batch correlation of multi-level distillation: $\|P_t P_t^\top - P_s P_s^\top\|_F^2 / B$, without T².

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        temperature: T > 0 of both softmaxes P.

    Returns:
        [], at least float32.

    Raises:
        ValueError: T is not positive.

    Source: Jin, Wang & Lin, CVPR 2023 (MLKD), eq. 4.
    """
    check_temperature(temperature)
    own, target = (lift(student) / temperature).softmax(dim=1), (lift(teacher) / temperature).softmax(dim=1)
    return (target @ target.t() - own @ own.t()).square().sum() / len(own)
