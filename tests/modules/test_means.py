import math

import pytest
import torch

from kdrobust.modules.means import EpochMeans

CPU = torch.device("cpu")
NAMES = ("loss", "accuracy")


def fill(means, steps):
    for number, (loss, accuracy, weight) in enumerate(steps):
        means.add(number, NAMES, torch.tensor([loss, accuracy]), numbers={"alpha": 0.5 * number}, weight=weight)


def test_means_are_weighted_by_samples():
    means = EpochMeans()
    fill(means, [(1.0, 0.0, 3), (2.0, 1.0, 1)])
    found = means.take(CPU)
    assert {name: float(value) for name, value in found.items()} == {"loss": 1.25, "accuracy": 0.25, "alpha": 0.125}
    assert means.take(CPU) == {}


def test_a_figure_that_only_some_steps_have_is_a_mean_over_those():
    means = EpochMeans()
    means.add(0, ["loss", "late"], torch.tensor([1.0, 4.0]), weight=2)
    means.add(1, ["loss"], torch.tensor([4.0]), weight=1)
    found = means.take(CPU)
    assert (float(found["loss"]), float(found["late"])) == (2.0, 4.0)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_what_was_saved_and_restored_goes_on_to_the_same_bits(at):
    generator = torch.Generator().manual_seed(0)
    steps = [(*torch.rand(2, generator=generator).tolist(), 7) for _ in range(4)]
    whole, first, second = EpochMeans(), EpochMeans(), EpochMeans()
    fill(whole, steps)
    fill(first, steps[:at])
    second.load_state_dict(first.state_dict())
    for number, (loss, accuracy, weight) in enumerate(steps[at:], start=at):
        second.add(number, NAMES, torch.tensor([loss, accuracy]), numbers={"alpha": 0.5 * number}, weight=weight)
    expected, found = whole.take(CPU), second.take(CPU)
    assert all(torch.equal(expected[name], found[name]) for name in (*NAMES, "alpha"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_named(value):
    means = EpochMeans()
    fill(means, [(1.0, 0.5, 1), (1.0, value, 1), (value, value, 1)])
    assert means.first_nonfinite() == (1, ["accuracy"])
    means.add(3, ["other"], torch.tensor([1.0]), weight=1)
    assert means.first_nonfinite() == (1, ["accuracy"])


def test_a_step_that_was_looked_at_is_not_looked_at_again_and_a_dropped_one_not_counted():
    means = EpochMeans()
    fill(means, [(1.0, 0.5, 1)])
    assert means.first_nonfinite() is None
    means.settle()
    fill(means, [(math.nan, 0.5, 1)])
    assert means.first_nonfinite() == (0, ["loss"])
    means.drop()
    assert means.first_nonfinite() is None
    assert float(means.take(CPU)["loss"]) == 1.0
