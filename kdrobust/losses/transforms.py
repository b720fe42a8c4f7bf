"""Transforms of logits that any logit loss can be put behind: a term's or a method's `logits_transform`."""

from __future__ import annotations

from torch import Tensor

from kdrobust.losses.numerics import lift


def zscore(logits: Tensor, *, eps: float = 1e-7, min_std: float = 0.0) -> Tensor:
    r"""Standardised logits, $(z - \bar z) / (\mathrm{std}(z) + \epsilon)$ a sample, the standard deviation with K - 1.

    The gradient flows through mean and deviation.

    Args:
        logits: [B, K].
        eps: ε in the denominator, the official code's.
        min_std: least deviation; above 0 (1e-3, say) constant logits, as of a head that starts at zero, cannot blow the
            gradient up to millions. 0 is the official code.

    Source: Sun et al., CVPR 2024, arXiv:2403.01427, eq. 9.
    """
    values = lift(logits)
    centred = values - values.mean(dim=1, keepdim=True)
    deviation = values.std(dim=1, keepdim=True)
    return centred / ((deviation.clamp(min=min_std) if min_std else deviation) + eps)


def center(logits: Tensor) -> Tensor:
    """Logits without their sample's mean: what softmax does not see, losses on logits no longer see either.

    Args:
        logits: [B, K].
    """
    values = lift(logits)
    return values - values.mean(dim=1, keepdim=True)
