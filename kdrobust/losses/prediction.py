"""Prediction losses: the student against the true labels. Every function returns one value a sample, [B]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.losses.numerics import lift, reduce_classes


def cross_entropy(student: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy against the true labels.

    $-\sum_j q_j \log \sigma(s)_j$ with $q = (1 - \epsilon)\,\mathrm{onehot}(y) + \epsilon / K$.

    Args:
        student: logits, [B, K].
        labels: true classes, [B] int64 in 0 .. K-1.
        label_smoothing: the share ε in [0, 1] spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).

    Returns:
        [B], at least float32.

    Raises:
        ValueError: `label_smoothing` is outside [0, 1].
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    return F.cross_entropy(lift(student), labels, reduction="none", label_smoothing=label_smoothing)


def mse(student: Tensor, labels: Tensor, *, reduction: str = "classes_mean") -> Tensor:
    r"""Squared error of the probabilities against the one-hot label (the article's second prediction loss).

    $\frac1K \sum_j (\sigma(s)_j - \mathrm{onehot}(y)_j)^2$.

    Args:
        student: logits, [B, K].
        labels: true classes, [B] int64.
        reduction: `classes_mean` divides by K, `classes_sum` does not.

    Returns:
        [B], at least float32.
    """
    probabilities = lift(student).softmax(dim=1)
    target = F.one_hot(labels, probabilities.shape[1]).to(probabilities.dtype)
    return reduce_classes((probabilities - target).square(), reduction)


def boosted_cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    r"""MART's boosted cross-entropy: cross-entropy plus a margin to the strongest wrong class.

    $-\log \sigma(s)_y - \log\left(1.0001 - \max_{k \ne y} \sigma(s)_k\right)$. The 1e-4 is the official code's and
    keeps the second logarithm finite when a wrong class takes all the probability.

    Args:
        student: logits, [B, K] with K >= 2.
        labels: true classes, [B] int64.

    Returns:
        [B], at least float32.

    Source: Wang et al., ICLR 2020 (MART), eq. 8.
    """
    logits = lift(student)
    wrong = logits.softmax(dim=1).masked_fill(F.one_hot(labels, logits.shape[1]).bool(), -1.0)
    strongest = wrong.amax(dim=1)
    return F.cross_entropy(logits, labels, reduction="none") - torch.log(1.0001 - strongest)
