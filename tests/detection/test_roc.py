"""Areas and intervals against scikit-learn, simulation, and what is known by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kdrobust.detection.roc import (
    auroc,
    auroc_difference,
    auroc_interval,
    average_precision,
    precision_interval,
    share,
    threshold_at,
)
from kdrobust.errors import DataError


def drawn(m=200, n=150, shift=1.0, seed=0, ties=False):
    random = np.random.default_rng(seed)
    parts = random.normal(size=m), random.normal(shift, size=n)
    return tuple(np.round(part, 0) if ties else part for part in parts)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
def test_auroc_is_scikit_learn_s(ties, shift):
    clean, attacked = drawn(shift=shift, ties=ties)
    truth = np.r_[np.zeros(len(clean)), np.ones(len(attacked))]
    assert auroc(clean, attacked) == pytest.approx(roc_auc_score(truth, np.r_[clean, attacked]), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learn_s_with_equal_weights(ties):
    clean, attacked = drawn(m=300, n=40, ties=ties)
    truth = np.r_[np.zeros(len(clean)), np.ones(len(attacked))]
    weights = np.r_[np.full(len(clean), 1 / len(clean)), np.full(len(attacked), 1 / len(attacked))]
    wanted = average_precision_score(truth, np.r_[clean, attacked], sample_weight=weights)
    assert average_precision(clean, attacked) == pytest.approx(wanted, abs=1e-12)


def test_by_hand():
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 0.875
    assert auroc(np.array([1.0]), np.array([0.0])) == 0.0
    assert average_precision(np.array([0.0]), np.array([1.0])) == 1.0
    # every threshold that finds an attack raises the alarm for every clean input too
    assert average_precision(np.array([2.0]), np.array([1.0, 0.5])) == pytest.approx(0.5 * (0.5 / 1.5) + 0.5 * 0.5)


@pytest.mark.parametrize("figure", [auroc, average_precision])
def test_nothing_has_no_area(figure):
    with pytest.raises(ValueError, match="needs clean and attacked"):
        figure(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="needs clean and attacked"):
        figure(np.array([1.0]), np.array([]))


def test_the_interval_covers_as_often_as_it_says():
    truth = auroc(*drawn(20000, 20000, shift=1.5, seed=99))
    inside = 0
    for seed in range(400):
        clean, attacked = drawn(60, 40, shift=1.5, seed=seed)
        low, high = auroc_interval(auroc(clean, attacked), 60, 40)
        inside += low <= truth <= high
    assert 0.92 <= inside / 400 <= 0.985


def test_the_interval_at_the_ends_has_a_width():
    low, high = auroc_interval(1.0, 100, 80)
    assert high == 1.0
    assert 0.94 < low < 0.99
    assert auroc_interval(0.0, 100, 80) == (0.0, pytest.approx(1 - low, abs=1e-9))
    wide, narrow = auroc_interval(0.8, 20, 20), auroc_interval(0.8, 2000, 2000)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]
    assert precision_interval(1.0, 100)[0] < 0.97
    assert precision_interval(0.304, 100)[0] < 0.304 < precision_interval(0.304, 100)[1]


def test_a_difference_is_paired():
    clean, attacked = drawn()
    worse = clean, attacked - 1.0
    found, low, high = auroc_difference((clean, attacked), worse)
    assert found == pytest.approx(auroc(*worse) - auroc(clean, attacked))
    assert low < found < high < 0
    assert auroc_difference((clean, attacked), (clean, attacked)) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same inputs"):
        auroc_difference((clean, attacked), (clean, attacked[1:]))


@pytest.mark.parametrize(("count", "rate"), [(100, 0.01), (100, 0.05), (126, 0.01), (1000, 0.3), (20, 0.05)])
def test_a_threshold_flags_at_most_its_share(count, rate):
    scores = np.random.default_rng(0).normal(size=count)
    threshold = threshold_at(scores, rate)
    flagged = (scores > threshold).sum()
    assert flagged == int(rate * count + 1e-9)
    # the next lower score would flag more
    below = scores[scores < threshold].max()
    assert (scores > below).sum() > rate * count


def test_a_threshold_of_equal_scores_flags_none():
    assert threshold_at(np.zeros(100), 0.05) == 0.0


@pytest.mark.parametrize(("count", "words"), [(50, r"fpr=0.01: 50 clean .* take at least 0.02"), (0, "no clean")])
def test_too_few_images_fix_no_threshold(count, words):
    with pytest.raises(DataError, match=words):
        threshold_at(np.arange(count, dtype=float), 0.01)


def test_a_share_of_nothing_is_none():
    assert share(0, 0) == {"count": 0, "n": 0, "share": None, "interval": [0.0, 1.0]}
    assert share(5, 10)["share"] == 0.5
