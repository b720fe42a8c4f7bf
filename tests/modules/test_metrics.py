"""Validation's means."""

import pytest
import torch

from kdrobust.modules.metrics import MeanOrZero


@pytest.mark.parametrize(
    ("values", "mean"), [([], 0.0), ([1.0], 1.0), ([1.0, 0.0, 0.0, 1.0], 0.5), ([0.25, 0.5], 0.375)]
)
def test_a_share_of_nothing_is_zero_and_any_other_the_mean(values, mean):
    metric = MeanOrZero()
    for value in values:
        metric.update(torch.tensor([value]))
    assert float(metric.compute()) == mean
