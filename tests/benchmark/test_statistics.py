"""Means, paired differences and Holm's correction, against numbers worked out elsewhere."""

import pytest
from scipy import stats

from kdrobust.benchmark.statistics import corrected, holm, mean_over_seeds, paired_difference

VALUES = [0.61, 0.64, 0.60, 0.66, 0.62]


def test_the_interval_is_student_s():
    mean = mean_over_seeds(VALUES)
    low, high = stats.t.interval(0.95, 4, loc=mean.value, scale=stats.sem(VALUES))
    assert (mean.value, mean.low, mean.high, mean.n) == pytest.approx((0.626, low, high, 5))
    wider = mean_over_seeds(VALUES, 0.99)
    assert wider.low < mean.low < mean.high < wider.high


def test_one_seed_has_no_interval():
    mean = mean_over_seeds([0.5])
    assert (mean.value, mean.low, mean.high, mean.n) == (0.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one seed"):
        mean_over_seeds([])


def test_differences_are_paired_by_seed():
    first = dict(enumerate(VALUES))
    second = {seed: value - shift for (seed, value), shift in zip(first.items(), [1, 2, 3, 2, 1], strict=True)}
    found = paired_difference({**first, 9: 0.0}, second)
    expected = stats.ttest_rel(list(first.values()), list(second.values()))
    interval = expected.confidence_interval(0.95)
    assert (found.value, found.n) == pytest.approx((1.8, 5))
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))


def test_without_spread_or_without_a_common_seed():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    single = paired_difference({0: 1.0}, {0: 0.75})
    assert (single.value, single.p, single.low) == (0.25, None, None)
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1.0
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5}).p == 0.0


def test_holm_s_own_order():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.6}) == pytest.approx({"b": 1.0, "a": 1.0})
    assert holm({}) == {}


def test_differences_are_corrected_together():
    small = paired_difference({0: 1.0, 1: 2.0, 2: 3.1}, {0: 0.5, 1: 1.5, 2: 2.5})
    large = paired_difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.9, 1: 2.2, 2: 2.7})
    one, none, other, single = corrected([small, None, large, paired_difference({0: 1.0}, {0: 0.0})])
    assert none is None
    assert (one.corrected, other.corrected) == pytest.approx((2 * small.p, large.p))
    assert (one.beyond_noise, other.beyond_noise, single.corrected, single.beyond_noise) == (True, False, None, False)
    assert not small.beyond_noise
