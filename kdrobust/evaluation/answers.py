"""A model's answers as numbers a sample."""

from __future__ import annotations

from torch import Tensor


def answers(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a model answered, as numbers a sample.

    Args:
        logits: [B, K].
        labels: [B] int64.

    Returns:
        `predicted` (the class), `confidence` (its probability, in [0, 1]) and `nll` (negative log-likelihood of the
        true class, in nats), each [B] float32.
    """
    logs = logits.double().log_softmax(dim=1)
    best = logs.max(dim=1)
    nll = -logs.gather(1, labels.unsqueeze(1)).squeeze(1)
    return {"predicted": best.indices.float(), "confidence": best.values.exp().float(), "nll": nll.float()}
