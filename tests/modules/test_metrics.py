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


def test_the_mean_does_not_depend_on_where_the_metric_was_made():
    # 64-true makes float64 the default of a training process, from another line on where a run is resumed
    values = 1.0 / torch.arange(3, 43, dtype=torch.float32)
    means = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            metric = torch.nn.ModuleDict({"mean": MeanOrZero()}).double()["mean"]
            torch.set_default_dtype(torch.float64)
            metric.update(values)
            means.append(metric.compute())
        finally:
            torch.set_default_dtype(torch.float32)
    assert means[0].dtype == means[1].dtype == torch.float32
    assert torch.equal(*means)
