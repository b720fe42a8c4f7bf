from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrobust.data import Arrays
from kdrobust.data.partition import partition
from kdrobust.data.splits import allocate, channel_statistics, make_split, stratified, to_unit
from kdrobust.errors import DataError, UsageError

NO_LIMITS = {"limit_train": None, "limit_validation": None, "limit_test": None}


def arrays(labels, test=(0, 1, 2)):
    labels, test = np.asarray(labels), np.asarray(test)
    return Arrays(
        x_train=np.zeros((len(labels), 1, 2, 2), np.uint8),
        y_train=labels,
        x_test=np.zeros((len(test), 1, 2, 2), np.uint8),
        y_test=test,
        origin="toy",
    )


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=12),
    part=st.floats(0.01, 0.99),
    least=st.integers(0, 1),
    spare=st.integers(0, 1),
)
def test_shares_add_up_and_stay_within_one_of_proportion(counts, part, least, spare):
    counts = np.array(counts)
    total = round(part * int(counts.sum()))
    share = allocate(counts, total, least=least, spare=spare)
    assert (share >= least).all()
    assert (share <= counts - spare).all()
    if least * len(counts) <= total <= counts.sum() - spare * len(counts):
        assert share.sum() == total
    if not least and not spare:
        assert (abs(share - counts * total / counts.sum()) < 1 + 1e-9).all()


def test_a_choice_is_seeded_and_named():
    labels = np.repeat(np.arange(4), 25)
    chosen = stratified(labels, 20, seed=0, purpose="a")
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5, 5]
    assert (np.diff(chosen) > 0).all()
    assert (stratified(labels, 20, seed=0, purpose="a") == chosen).all()
    assert set(stratified(labels, 20, seed=1, purpose="a")) != set(chosen)
    assert set(stratified(labels, 20, seed=0, purpose="b")) != set(chosen)


def test_validation_is_disjoint_stratified_and_deterministic():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), (100, 50, 10)))
    given = {"fraction": 0.2, "limits": NO_LIMITS, "seed": 7, "classes": 3}
    rows = partition(arrays(labels), **given)
    train, validation = rows["train"], rows["validation"]
    assert not set(train) & set(validation)
    assert sorted([*train, *validation]) == list(range(160))
    assert np.bincount(labels[validation]).tolist() == [20, 10, 2]
    assert rows["test"].tolist() == [0, 1, 2]
    again = partition(arrays(labels), **given)
    assert all((again[split] == rows[split]).all() for split in rows)
    assert set(partition(arrays(labels), **{**given, "seed": 8})["validation"]) != set(validation)


def test_splits_of_sorted_data_are_mixed():
    labels = np.repeat(np.arange(3), 40)
    rows = partition(arrays(labels), fraction=0.2, limits=NO_LIMITS, seed=0, classes=3)
    assert len(set(labels[rows["train"][:12]])) == 3
    assert len(set(labels[rows["validation"][:12]])) == 3


def test_every_class_reaches_validation_and_training():
    rows = partition(arrays([0] * 50 + [1] * 2 + [2] * 50), fraction=0.01, limits=NO_LIMITS, seed=0, classes=3)
    labels = np.array([0] * 50 + [1] * 2 + [2] * 50)
    assert sorted(labels[rows["validation"]]) == [0, 1, 2]
    assert (labels[rows["train"]] == 1).sum() == 1


def test_limits_are_stratified_parts_of_the_unlimited_splits():
    labels = np.repeat(np.arange(3), (60, 30, 10))
    test = np.tile(np.arange(3), 10)
    full = partition(arrays(labels, test), fraction=0.2, limits=NO_LIMITS, seed=0, classes=3)
    limits = {"limit_train": 8, "limit_validation": 10, "limit_test": 6}
    rows = partition(arrays(labels, test), fraction=0.2, limits=limits, seed=0, classes=3)
    assert np.bincount(labels[rows["train"]]).tolist() == [5, 2, 1]
    assert np.bincount(labels[rows["validation"]]).tolist() == [6, 3, 1]
    assert np.bincount(test[rows["test"]]).tolist() == [2, 2, 2]
    assert rows["test"].tolist() == sorted(rows["test"])
    assert all(set(rows[split]) <= set(full[split]) for split in full)
    generous = partition(arrays(labels, test), fraction=0.2, limits={"limit_train": 999}, seed=0, classes=3)
    assert (generous["train"] == full["train"]).all()


def test_a_class_of_one_sample_is_refused():
    with pytest.raises(DataError, match="toy: class 1 has one sample in y_train"):
        partition(arrays([0, 0, 1, 2, 2]), fraction=0.5, limits=NO_LIMITS, seed=0, classes=3)


def test_a_training_limit_below_the_classes_is_refused():
    with pytest.raises(UsageError, match=r"data\.limit_train: 2 samples cannot hold 3 classes"):
        partition(arrays([0, 0, 1, 1, 2, 2]), fraction=0.5, limits={"limit_train": 2}, seed=0, classes=3)


def test_statistics_are_those_of_the_rows():
    images = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 3)).astype(np.uint8)
    images[:, 1] = 51
    rows = np.arange(5, 45)
    split = make_split(images, np.zeros(50, int), rows, keep_on_disk=False)
    mean, std = channel_statistics(split)
    pixels = images[rows, 0] / 255
    assert mean == pytest.approx((pixels.mean(), 0.2), abs=1e-12)
    # a constant channel is divided by 1
    assert std == pytest.approx((pixels.std(), 1.0), abs=1e-12)


def test_split_gives_stored_and_unit_pixels():
    images = np.arange(24).reshape(6, 1, 2, 2).astype(np.uint8)
    split = make_split(images, np.arange(6) % 2, np.array([4, 1, 3]), keep_on_disk=False)
    assert len(split) == 3
    assert split.indices.tolist() == [0, 1, 2]
    assert split.rows.tolist() == [4, 1, 3]
    assert split.labels.tolist() == [0, 1, 1]
    assert split.inputs.dtype == torch.uint8
    assert torch.equal(split.raw(torch.tensor([2, 0])), torch.from_numpy(images[[3, 4]]))
    assert torch.equal(split.pixels(torch.tensor([0])), torch.from_numpy(images[[4]]).float() / 255)


def test_to_unit_divides_bytes_only():
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_unit(torch.tensor([0.25])).item() == 0.25
    assert to_unit(torch.tensor([255], dtype=torch.uint8), torch.float64).dtype == torch.float64
