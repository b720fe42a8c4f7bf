"""Balances: weights of whole terms that follow what the terms are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrobust.losses.collective import global_mean


class RelativeLossBalance(nn.Module):
    r"""MTARD's balance: a term whose loss has fallen less, relative to its first value, gains weight.

    $r_k = (L_k / L_k^{(0)})^\beta$, $w_k \leftarrow w_k - \eta\,(w_k - r_k / \sum_m r_m)$. The step is taken before
    the batch is weighed, so that each batch has the weights its own losses led to. In MTARD there are two terms and
    the second's weight is one minus the first's, which this rule keeps; any number of terms is allowed. Losses are
    means over all processes.

    Args:
        terms: names, at least two.
        beta: exponent β of the relative losses.
        start: first weights, in the order of `terms`, positive and of sum 1; equal ones by default.

    Raises:
        ValueError: fewer than two terms, or weights that do not fit them.

    Source: Zhao et al., ECCV 2022 (MTARD), eqs. 7 to 9.
    """

    weights: Tensor
    first: Tensor
    started: Tensor

    def __init__(self, *, terms: Sequence[str], beta: float = 1.0, start: Sequence[float] | None = None) -> None:
        super().__init__()
        if len(terms) < 2 or len(set(terms)) != len(terms):
            raise ValueError(f"terms must name at least two different terms, got {list(terms)}")
        first = [1.0 / len(terms)] * len(terms) if start is None else [float(value) for value in start]
        if len(first) != len(terms) or min(first) < 0 or abs(sum(first) - 1.0) > 1e-6:
            raise ValueError(f"start must give each of {len(terms)} terms a weight, of sum 1; got {first}")
        self.terms = tuple(terms)
        self.beta = beta
        # float64: these few numbers are fed back thousands of times
        self.register_buffer("weights", torch.tensor(first, dtype=torch.float64))
        self.register_buffer("first", torch.ones(len(terms), dtype=torch.float64))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def forward(self, values: Mapping[str, Tensor], *, rate: float = 0.025) -> dict[str, Tensor]:
        """The terms' weights for a batch, after the step that its losses make (in training).

        Args:
            values: each term's loss, [], detached.
            rate: η in [0, 1]; the official code divides it by 10 at each drop of the learning rate.
        """
        if self.training:
            losses = torch.stack([global_mean(values[name].reshape(1).double()) for name in self.terms])
            losses = losses.to(self.weights.device)
            self.first = torch.where(self.started, self.first, losses)
            self.started = torch.ones_like(self.started)
            relative = (losses / self.first.clamp(min=1e-12)) ** self.beta
            share = relative / relative.sum().clamp(min=1e-12)
            self.weights = self.weights - rate * (self.weights - share)
        return dict(zip(self.terms, self.weights.unbind(), strict=True))
