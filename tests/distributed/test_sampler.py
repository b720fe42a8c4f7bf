from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrobust.distributed import ShuffledBatches, UnpaddedDistributedSampler, position

SIZES = st.integers(1, 120)
BATCHES = st.integers(1, 40)
WORLDS = st.integers(1, 3)


def evaluation(size, batch_size, replicas):
    return [
        list(UnpaddedDistributedSampler(size=size, batch_size=batch_size, rank=rank, replicas=replicas))
        for rank in range(replicas)
    ]


def training(size, batch_size, replicas, epoch=0, seed=0):
    ranks = []
    for rank in range(replicas):
        sampler = ShuffledBatches(size=size, batch_size=batch_size, seed=seed, rank=rank, replicas=replicas)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        ranks.append(batches)
    return ranks


@settings(max_examples=150, deadline=None)
@given(size=SIZES, batch_size=BATCHES, replicas=WORLDS)
def test_evaluation_sees_every_sample_exactly_once(size, batch_size, replicas):
    if size < replicas:
        return
    ranks = evaluation(size, batch_size, replicas)
    seen = torch.cat(list(itertools.chain(*ranks)))
    assert sorted(seen.tolist()) == list(range(size))
    assert len({len(batches) for batches in ranks}) == 1
    sizes = [len(batch) for batches in ranks for batch in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (batch_size == 1)


def test_evaluation_of_101_samples_on_two_ranks_counts_101():
    first, second = evaluation(101, 50, 2)
    assert [len(batch) for batch in first] == [26, 25]
    assert [len(batch) for batch in second] == [25, 25]


def test_evaluation_on_one_rank_keeps_the_order():
    (batches,) = evaluation(10, 4, 1)
    assert torch.cat(batches).tolist() == list(range(10))
    assert len(UnpaddedDistributedSampler(size=10, batch_size=4)) == len(batches) == 3


@settings(max_examples=150, deadline=None)
@given(size=SIZES, batch_size=BATCHES, replicas=WORLDS, epoch=st.integers(0, 5))
def test_training_gives_every_rank_equally_many_equal_batches(size, batch_size, replicas, epoch):
    if size < replicas:
        return
    ranks = training(size, batch_size, replicas, epoch)
    lengths = {len(batch) for batches in ranks for batch in batches}
    assert len(lengths) == 1
    assert len({len(batches) for batches in ranks}) == 1
    seen = torch.cat(list(itertools.chain(*ranks))).tolist()
    assert len(set(seen)) == len(seen)
    # no more is left out than one step takes
    assert size - len(seen) < min(batch_size, size // replicas) * replicas


def test_two_ranks_see_in_each_step_what_one_rank_with_twice_the_batch_sees():
    first, second = training(50, 6, 2, epoch=3)
    (alone,) = training(50, 12, 1, epoch=3)
    for a, b, both in zip(first, second, alone, strict=True):
        assert torch.equal(torch.cat([a, b]), both)


def test_the_order_depends_on_seed_and_epoch_only():
    sampler = ShuffledBatches(size=30, batch_size=10, seed=1)
    sampler.set_epoch(4)
    before = torch.cat(list(sampler))
    torch.manual_seed(99)
    sampler.set_epoch(7)
    other = torch.cat(list(sampler))
    sampler.set_epoch(4)
    assert torch.equal(torch.cat(list(sampler)), before)
    assert not torch.equal(other, before)
    assert not torch.equal(torch.cat(training(30, 10, 1, epoch=4, seed=2)[0]), before)


def test_fewer_samples_than_a_batch_make_one_batch():
    (batches,) = training(5, 8, 1)
    assert sorted(batches[0].tolist()) == [0, 1, 2, 3, 4]
    assert [[len(batch) for batch in batches] for batches in training(5, 8, 2)] == [[2], [2]]


@pytest.mark.parametrize("kind", [ShuffledBatches, UnpaddedDistributedSampler])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 5, "batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"size": 1, "batch_size": 1, "rank": 0, "replicas": 2}, "1 samples cannot feed 2 processes"),
        ({"size": 5, "batch_size": 1, "rank": 2, "replicas": 2}, "rank: expected 0 .. 1, got 2"),
    ],
)
def test_refusals(kind, given, message):
    extra = {"seed": 0} if kind is ShuffledBatches else {}
    with pytest.raises(ValueError, match=message):
        kind(**given, **extra)


def test_alone_where_nothing_is_initialised(monkeypatch):
    assert position() == (0, 1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    assert position() == (1, 3)
    assert torch.cat(list(UnpaddedDistributedSampler(size=7, batch_size=2))).tolist() == [1, 4]


@pytest.mark.parametrize("rank", [0, 1])
def test_batches_that_were_trained_on_are_left_out_in_their_epoch_only(rank):
    def batches(epoch, trained):
        sampler = ShuffledBatches(size=23, batch_size=3, seed=5, rank=rank, replicas=2)
        sampler.trained = trained
        sampler.set_epoch(epoch)
        assert len(sampler) == 3
        return [batch.tolist() for batch in sampler]

    whole = batches(4, (0, 0))
    assert batches(4, (4, 2)) == whole[2:]
    assert batches(5, (4, 2)) == batches(5, (0, 0)) != whole
