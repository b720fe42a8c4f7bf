"""Distances of logits as big_vision's distillation names them, one value a sample, [B]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrobust.losses.numerics import lift, safe_root


def _length(difference: Tensor) -> Tensor:
    return safe_root(difference.square().sum(dim=1))


def logit_l2(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared distance of the logits, summed over the classes: $\sum_j (s_j - t_j)^2$.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].

    Returns:
        [B], at least float32.

    Source: Beyer et al., CVPR 2022, arXiv:2106.05237 (big_vision's `l2`).
    """
    return (lift(student) - lift(teacher)).square().sum(dim=1)


def logit_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Euclidean distance of the logits, $\|s - t\|_2$; its gradient at s = t is 0.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].

    Returns:
        [B], at least float32.

    Source: Beyer et al., CVPR 2022, arXiv:2106.05237 (big_vision's `euclidean`).
    """
    return _length(lift(student) - lift(teacher))


def logsoftmax_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Euclidean distance of the log-probabilities, $\|\log\sigma(s) - \log\sigma(t)\|_2$; its gradient at s = t is 0.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].

    Returns:
        [B], at least float32.

    Source: Beyer et al., CVPR 2022, arXiv:2106.05237 (big_vision's `logsoftmax_euclidean`).
    """
    return _length(F.log_softmax(lift(student), dim=1) - F.log_softmax(lift(teacher), dim=1))
