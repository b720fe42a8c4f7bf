"""Wilson's interval against published values and by its own definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdrobust.evaluation import paired_error, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: published to four places
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_no_samples_say_nothing_and_the_ends_are_exact():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_ends_are_where_the_score_test_just_accepts(n, share, confidence):
    from statistics import NormalDist

    successes = min(n, round(share * n))
    low, high = wilson(successes, n, confidence)
    p, z = successes / n, NormalDist().inv_cdf(0.5 + confidence / 2)
    assert 0.0 <= low <= p <= high <= 1.0
    for end in (low, high):
        assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)
    mirrored = wilson(n - successes, n, confidence)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)


def test_more_confidence_is_wider():
    narrow, wide = wilson(30, 100, 0.8), wilson(30, 100, 0.99)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0)])
def test_nonsense_is_refused(successes, n, confidence):
    with pytest.raises(ValueError, match=r"must lie in|is a share"):
        wilson(successes, n, confidence)


def test_paired_error_is_that_of_the_samples_differences():
    import numpy as np

    differences = np.array([1] * 7 + [-1] * 3 + [0] * 90)
    assert paired_error(7, 3, 100) == pytest.approx(differences.std() / math.sqrt(100))
    assert paired_error(0, 0, 100) == paired_error(0, 0, 0) == 0.0
