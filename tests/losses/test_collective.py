"""Statistics of the batch where there is one process; several are in tests/distributed."""

import pytest
import torch

from kdrobust.losses.collective import (
    gather,
    global_max,
    global_mean,
    global_min,
    global_std,
    global_sum,
    is_distributed,
)

VALUES = torch.tensor([3.0, -1.0, 4.0])


def test_alone_they_are_the_plain_statistics():
    assert not is_distributed()
    assert float(global_mean(VALUES)) == 2.0
    assert float(global_min(VALUES)) == -1.0
    assert float(global_max(VALUES)) == 4.0
    assert torch.equal(global_std(VALUES), VALUES.std(unbiased=False))
    assert torch.equal(global_sum(VALUES), VALUES)
    assert gather(VALUES) is VALUES


def test_they_carry_no_gradient_and_change_nothing_in_place():
    values = VALUES.clone().requires_grad_(True)
    for statistic in (global_mean, global_min, global_max, global_sum):
        assert not statistic(values).requires_grad
    total = global_sum(values)
    total += 1.0
    assert torch.equal(values.detach(), VALUES)
    gather(values).sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_group_of_one_is_no_group(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    assert not is_distributed()


def test_over_two_they_ask_the_others(monkeypatch):
    # the other process holds the same numbers plus one
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)

    def reduce(tensor, op=None):
        other = tensor + 1.0
        tensor.copy_(torch.minimum(tensor, other) if op is not None else tensor + other)

    monkeypatch.setattr("torch.distributed.all_reduce", reduce)
    assert global_sum(VALUES).tolist() == [7.0, -1.0, 9.0]
    assert float(global_min(VALUES)) == -1.0
    assert float(global_mean(VALUES)) == pytest.approx((6.0 + 7.0) / (3.0 + 4.0))


def test_a_deviation_over_two(monkeypatch):
    # the other process holds the negatives of the numbers: their squares' mean is that of ours, the mean is 0
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    sums = iter([torch.tensor([0.0, 6.0]), torch.tensor([52.0, 6.0])])
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: tensor.copy_(next(sums)))
    assert float(global_std(VALUES)) == pytest.approx(torch.cat([VALUES, -VALUES]).std(unbiased=False).item())
