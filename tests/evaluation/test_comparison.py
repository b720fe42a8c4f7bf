"""Paired comparisons against scipy, by coverage, and on evaluations."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.evaluation import (
    compare,
    evaluate,
    mcnemar,
    paired_error,
    paired_interval,
    per_sample,
    read_samples,
    samples_hash,
    wilson,
    write_samples,
)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_binomial_test(b, c):
    reference = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(reference, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_by_hand_and_for_many():
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(1, 5) == 2 * 7 / 64
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(2100, 1900) == pytest.approx(2 * binom.cdf(1900, 4000, 0.5), rel=1e-9)
    assert 0.0 <= mcnemar(0, 5000) < 1e-300
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


def test_interval_where_the_models_agree_and_where_they_never_do():
    low, high = paired_interval(50, 0, 0, 0)
    assert (low, high) == pytest.approx((-(1 - wilson(50, 50)[0]), 1 - wilson(50, 50)[0]))
    low, high = paired_interval(0, 50, 0, 0)
    assert high == 1.0
    assert low == pytest.approx(1 - math.sqrt(2) * (1 - wilson(50, 50)[0]))
    assert paired_interval(0, 0, 0, 0) == (-1.0, 1.0)


@given(*[st.integers(0, 60)] * 4)
def test_interval_holds_the_difference_and_turns_with_the_sides(a, b, c, d):
    low, high = paired_interval(a, b, c, d)
    n = max(1, a + b + c + d)
    assert -1 <= low <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= high <= 1
    mirrored = paired_interval(a, c, b, d)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-12)
    assert paired_interval(d, b, c, a) == pytest.approx((low, high), abs=1e-9)


def test_interval_meets_the_normal_one_where_samples_are_many():
    a, b, c, d = 6000, 900, 700, 2400
    half = 1.959964 * paired_error(b, c, 10_000)
    assert paired_interval(a, b, c, d) == pytest.approx((0.02 - half, 0.02 + half), abs=3e-4)


@pytest.mark.parametrize("shares", [(0.6, 0.15, 0.1, 0.15), (0.9, 0.06, 0.0, 0.04), (0.2, 0.4, 0.1, 0.3)])
def test_interval_covers_as_often_as_it_says(shares):
    draws = np.random.default_rng(1).multinomial(60, shares, size=2000)
    truth, cache = shares[1] - shares[2], {}
    for table in map(tuple, draws.tolist()):
        if table not in cache:
            low, high = paired_interval(*table)
            cache[table] = low <= truth <= high
    covered = np.mean([cache[table] for table in map(tuple, draws.tolist())])
    assert 0.925 < covered <= 1.0


@pytest.fixture(scope="module")
def two(digits):
    from kdrobust.attacks import GradientAttack, Threat

    threat = Threat(norm="linf", eps=0.1)
    attacks = {"fgsm": GradientAttack(threat=threat, steps=1, step_size=0.1)}
    data = {key: digits[key][:150] for key in ("inputs", "labels", "indices")}
    return [
        evaluate(digits["models"]["cnn", eps], batch_size=75, seed=0, checks=False, threat=threat, attacks=attacks, **data)
        for eps in (0.1, 0.0)
    ]  # fmt: skip


def test_evaluations_and_their_files_compare_alike(two, tmp_path):
    found = compare(*two, column="fgsm", confidence=0.9)
    a, b = (evaluation.attacks["fgsm"].correct for evaluation in two)
    assert (found.both, found.neither) == ((a & b).sum(), (~a & ~b).sum())
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.p_value == mcnemar(found.only_first, found.only_second)
    assert found.interval == paired_interval(found.both, found.only_first, found.only_second, found.neither, 0.9)
    assert found.interval[0] > 0
    for name, evaluation in zip("ab", two, strict=True):
        write_samples(tmp_path / f"{name}.npz", evaluation)
    files = [read_samples(tmp_path / f"{name}.npz") for name in "ab"]
    assert compare(*files, column="fgsm", confidence=0.9) == found
    assert compare(two[0], files[1]) == compare(*two)


def test_a_model_is_as_good_as_itself(two):
    found = compare(two[0], two[0])
    assert (found.difference, found.p_value, found.only_first, found.only_second) == (0.0, 1.0, 0, 0)


def test_other_samples_other_threats_and_other_columns_are_refused(two):
    first, second = two
    samples = dict(per_sample(second))
    moved = {**samples, "indices": samples["indices"] + 1}
    with pytest.raises(UsageError, match=r"different samples .* evaluate both models with the same data"):
        compare(first, moved)
    with pytest.raises(UsageError, match="different samples"):
        compare(first, {**samples, "labels": samples["labels"][::-1]})
    assert samples_hash(samples) != samples_hash(moved)
    wider = dataclasses.replace(second, threat={**second.threat, "eps": 0.2})
    with pytest.raises(UsageError, match="two threats"):
        compare(first, wider)
    assert compare(first, wider, column="clean").n == 150
    for column in ("pgd", "indices", "fgsm/distance"):
        with pytest.raises(UsageError, match=r"no verdicts called .* there are clean, fgsm, worst_case"):
            compare(first, second, column=column)


def test_no_samples_differ_by_nothing(two):
    nothing = {key: values[:0] for key, values in per_sample(two[0]).items()}
    found = compare(nothing, nothing)
    assert (found.n, found.difference, found.interval, found.p_value) == (0, None, (-1.0, 1.0), 1.0)


def test_unreadable_samples_are_one_line(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    for name in ("a.npz", "missing.npz"):
        with pytest.raises(RunFolderError, match=rf"{name}: cannot be read"):
            read_samples(tmp_path / name)
    np.savez(tmp_path / "b.npz", labels=np.zeros(3))
    with pytest.raises(RunFolderError, match="has no 'clean'"):
        read_samples(tmp_path / "b.npz")
