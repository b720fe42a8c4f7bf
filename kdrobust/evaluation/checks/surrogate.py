"""A surrogate that has no gradients to hide: a linear map fitted to a model's answers in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

#: Ridge penalty, relative to the mean squared length of the centred inputs.
RIDGE = 1e-2


def linear_answers(inputs: Tensor, logits: Tensor) -> Tensor:
    r"""Weights of the ridge regression from inputs to logits, in its dual form.

    With centred inputs $X$ and logits $Z$, each sample's logits brought to mean 0 and length 1:
    $W = X^\top (X X^\top + \lambda I)^{-1} Z$, λ = 0.01 of the mean diagonal.

    Args:
        inputs: [N, ...].
        logits: [N, K], of any scale, one-hot answers too.

    Returns:
        [d, K] float64; it predicts logits up to a constant a class.
    """
    flat = inputs.flatten(1).double()
    flat = flat - flat.mean(dim=0)
    answers = torch.nan_to_num(logits.double())
    answers = answers - answers.mean(dim=1, keepdim=True)
    answers = answers / answers.norm(dim=1, keepdim=True).clamp(min=1e-12)
    gram = flat @ flat.T
    penalty = RIDGE * float(gram.diagonal().mean()) + 1e-12
    eye = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    weights: Tensor = flat.T @ torch.linalg.solve(gram + penalty * eye, answers - answers.mean(dim=0))
    return weights


def linear_directions(weights: Tensor, inputs: Tensor, labels: Tensor, logits: Tensor, rank: int) -> Tensor:
    """The surrogate's gradient from each sample's class to the model's `rank`-likeliest other one.

    Args:
        weights: [d, K], see `linear_answers`.
        inputs: [B, ...], for their shape.
        labels: [B] int64.
        logits: [B, K], the attacked model's.
        rank: 0 is the likeliest other class.

    Returns:
        [B, ...] in the inputs' type.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    aims = others.argsort(dim=1, descending=True)[:, rank]
    return (weights[:, aims] - weights[:, labels]).T.to(inputs.dtype).reshape(inputs.shape)
