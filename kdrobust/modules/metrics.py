"""Metrics of validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOrZero(Metric):
    """The mean of all values, over the processes too; 0, and not NaN, of none: a share of no examples.

    Sums are kept in float64 whatever the model computes in and torch's default is: an epoch's figure does not depend on
    whether it was begun by this process or resumed.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Take more values in.

        Args:
            values: [n], numbers or truth values.
        """
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean, [], float32."""
        return (self.total / self.count.clamp(min=1.0)).float()
