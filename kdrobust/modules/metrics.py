"""Metrics of validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric


class MeanOrZero(MeanMetric):
    """The mean of all values; 0, and not NaN, of none: a share of no examples."""

    def compute(self) -> Tensor:
        """The mean over all processes, a scalar."""
        return torch.where(self.weight > 0, super().compute(), torch.zeros_like(self.mean_value))
