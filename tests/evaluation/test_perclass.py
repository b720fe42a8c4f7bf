"""Accuracy by class against a loop, and the worst class's interval against its definition."""

import numpy as np
import pytest

from kdrobust.evaluation import per_class, w_robust, wilson


def test_counts_are_those_of_a_loop():
    draw = np.random.default_rng(0)
    labels = draw.choice([0, 2, 7], size=200)
    correct = draw.random(200) < 0.6
    found = per_class(labels, correct, confidence=0.9)
    assert found.labels == (0, 2, 7)
    for place, label in enumerate(found.labels):
        members = [bool(right) for right, truth in zip(correct, labels, strict=True) if truth == label]
        assert (found.correct[place], found.n[place]) == (sum(members), len(members))
        assert found.accuracy[place] == sum(members) / len(members)
        assert (found.low[place], found.high[place]) == wilson(sum(members), len(members), 0.9)
    assert found.worst.label == found.labels[int(np.argmin(found.accuracy))]


def test_the_worst_class_is_the_lowest_share_and_of_equals_the_first():
    found = per_class([0, 0, 1, 1, 1, 1, 2, 2], [True, True, True, False, True, False, True, False])
    assert (found.worst.label, found.worst.accuracy) == (1, 0.5)
    # three classes: each end at 1 - 0.05/3
    assert found.worst.interval == pytest.approx(wilson(2, 4, 1 - 0.05 / 3))
    assert found.worst.interval[0] < found.low[1]
    assert found.worst.interval[1] > found.high[1]


def test_one_class_is_its_own_worst_without_widening():
    found = per_class([4, 4], [True, False])
    assert found.labels == (4,)
    assert found.worst.interval == pytest.approx(wilson(1, 2))


def test_no_samples_have_no_worst_class():
    found = per_class([], [])
    assert (found.labels, found.accuracy, found.worst) == ((), (), None)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="a verdict for every label"):
        per_class([0, 1], [True])


def test_w_robust_is_the_mean():
    assert w_robust(0.9, 0.4) == pytest.approx(0.65)
    assert w_robust(1.0, 0.0) == 0.5
