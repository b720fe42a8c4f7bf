"""Which samples are drawn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdrobust.evaluation import stratified


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_counts_are_proportional_to_within_one(labels, num_samples, seed):
    labels = torch.tensor(labels)
    chosen = stratified(labels, num_samples, seed=seed)
    wanted = min(num_samples, len(labels))
    assert len(chosen) == wanted
    assert torch.equal(chosen, torch.unique(chosen))
    for label in labels.unique():
        exact = float((labels == label).sum()) * wanted / len(labels)
        assert abs(int((labels[chosen] == label).sum()) - exact) < 1


def test_null_takes_all_and_seeds_draw_differently():
    labels = torch.arange(10).repeat(50)
    assert torch.equal(stratified(labels, None, seed=0), torch.arange(500))
    first, again, other = (stratified(labels, 100, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (labels[first].bincount() == 10).all()


def test_a_draw_does_not_depend_on_the_other_classes():
    labels = torch.tensor([0] * 40 + [1] * 40)
    chosen = stratified(labels, 20, seed=3)
    swapped = stratified(torch.tensor([0] * 40 + [2] * 40), 20, seed=3)
    assert torch.equal(chosen[chosen < 40], swapped[swapped < 40])


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    stratified(torch.arange(10).repeat(9), 20, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_none_at_all_is_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        stratified(torch.zeros(3, dtype=torch.long), 0, seed=0)
