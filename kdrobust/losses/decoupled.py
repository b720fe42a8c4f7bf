"""Decoupled distillation: what the teacher says of the label, apart from what it says of the other classes."""

from __future__ import annotations

from torch import Tensor, stack
from torch.nn import functional as F

from kdrobust.losses.numerics import check_temperature, kl_per_class, lift


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of the classes that are not the label, [B, K-1], order kept."""
    classes = logits.shape[1]
    keep = ~F.one_hot(labels, classes).bool()
    return logits[keep].view(len(logits), classes - 1)


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    r"""Decoupled knowledge distillation.

    $T^2 \left[\alpha\, \mathrm{KL}(b^t \,\|\, b^s) + \beta\, \mathrm{KL}(\hat p^t \,\|\, \hat p^s)\right]$ with
    $b = (p_y, 1 - p_y)$ and $\hat p$ the softmax over the K - 1 other logits, all at temperature T. The probability
    of "another class" is the log-sum-exp of the others' logits, so that nothing overflows or underflows to NaN.

    Args:
        student: logits, [B, K] with K >= 2.
        teacher: logits, [B, K].
        labels: true classes, [B] int64.
        alpha: weight of the target-class part.
        beta: weight of the other classes' part; published: 8, 6 or 2 by pair of networks, 0.5 with T = 1 on ImageNet.
        temperature: T > 0.

    Returns:
        [B], at least float32. The published recipe adds cross-entropy with weight 1 and warms both parts up over 20
        epochs.

    Raises:
        ValueError: T is not positive.

    Source: Zhao et al., CVPR 2022, arXiv:2203.08679, eq. 7.
    """
    check_temperature(temperature)
    own, target = lift(student) / temperature, lift(teacher) / temperature
    binary, others = [], []
    for logits in (target, own):
        rest = _others(logits, labels)
        picked = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
        binary.append(stack([picked, rest.logsumexp(dim=1)], dim=1))
        others.append(rest)
    target_part = kl_per_class(binary[0], binary[1]).sum(dim=1)
    other_part = kl_per_class(others[0], others[1]).sum(dim=1)
    return temperature**2 * (alpha * target_part + beta * other_part)
