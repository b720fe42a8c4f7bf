"""Costs against published numbers and by hand."""

import pytest
import torch
from torch import nn

from kdrobust.evaluation.cost import model_cost
from kdrobust.models import ResNet
from kdrobust.spec import InputSpec


def test_resnet18():
    spec = InputSpec(shape=(3, 32, 32), classes=10)
    model = ResNet(spec=spec)
    cost = model_cost(model, spec)
    assert cost.flops / 1e9 == pytest.approx(2 * 0.556, abs=0.005)
    assert cost.parameters == 11_173_962


def test_linear_by_hand():
    cost = model_cost(nn.Linear(6, 5), InputSpec(shape=(6,), classes=5))
    assert (cost.parameters, cost.flops, cost.size_bytes) == (35, 60, 140)


def test_leaves_no_trace():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5))
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model_cost(model, InputSpec(shape=(6,), classes=5))
    assert [module.training for module in model] == [True, True, False]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
