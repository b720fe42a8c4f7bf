"""What a key of a grid does on average, and how the answers tell it."""

import math

import pytest

from kdrobust.benchmark.answers import in_short, measured, verdict
from kdrobust.benchmark.effects import main_effects
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.rows import rows_of
from tests.benchmark.suites import record, suite

KEY, OTHER = "threat.eps", "method.alpha"


@pytest.fixture
def made():
    grid = {"question": "Why?", "methods": ["gentle"], "students": ["small"], "grid": {KEY: [0.1, 0.2], OTHER: [0, 1]}}
    return suite(blocks={"main": {"question": "Who wins?"}, "grid": grid})


def robust(job):
    """0.2 costs 4 points where alpha is 0 and 8 where it is 1, and a point more with every seed."""
    drop = (4 if job.values[OTHER] == "0" else 8) + job.seed if job.values[KEY] == "0.2" else 0
    return 60 + 2 * job.seed - drop


def found_of(made, *, keep=lambda job: True):
    block = made.blocks["grid"]
    records = [record(job, robust=robust(job)) for job in jobs_of(made, block) if keep(job)]
    return block, records, rows_of(made, block, records)


def test_an_effect_is_a_mean_over_settings_with_seeds_as_its_observations(made):
    block, _, rows = found_of(made)
    eps, alpha = main_effects(block, rows)
    assert (eps.key, eps.value, eps.first, eps.settings) == (KEY, "0.2", "0.1", 2)
    # -6, -7 and -8 by seed; -2 for all seeds
    assert (eps.difference.value, eps.difference.n) == (pytest.approx(-0.07), 3)
    # t = 7√3 with two degrees of freedom
    assert eps.difference.p == pytest.approx(1 - math.sqrt(147 / 149))
    # the other, without spread but for rounding, is the smaller of two
    assert eps.difference.corrected == pytest.approx(eps.difference.p)
    assert (alpha.key, alpha.difference.value) == (OTHER, pytest.approx(-0.02))
    assert eps.difference.beyond_noise
    assert alpha.difference.beyond_noise


def test_a_seed_that_lacks_a_setting_is_left_out(made):
    block, _, rows = found_of(made, keep=lambda job: (job.seed, job.values) != (2, {KEY: "0.2", OTHER: "1"}))
    assert [effect.difference.n for effect in main_effects(block, rows)] == [2, 2]
    block, _, rows = found_of(made, keep=lambda job: job.values != {KEY: "0.2", OTHER: "1"})
    assert main_effects(block, rows) == []
    block, _, rows = found_of(made, keep=lambda job: job.seed == 0)
    assert main_effects(block, rows) == []


def test_a_key_beside_which_nothing_varies_has_no_average():
    grid = {"question": "Why?", "methods": ["gentle"], "students": ["small"], "grid": {KEY: [0.1, 0.2]}}
    made = suite(blocks={"main": {"question": "Who?"}, "grid": grid})
    block = made.blocks["grid"]
    assert main_effects(block, rows_of(made, block, [record(job) for job in jobs_of(made, block)])) == []


def test_the_answer_tells_averages_where_points_of_the_grid_are_compared(made):
    block, records, rows = found_of(made)
    told = verdict(block, rows)
    assert "`eps` on average over 2 settings of the rest, from 0.1: 0.2: **-7.0 [-9.5, -4.5], p = 0.007**." in told
    assert "`alpha` on average over 2 settings of the rest, from 0: 1: **-2.0" in told
    assert f"- **Why?**\n  - `small`: {told}" in in_short(made, {"main": [], "grid": records})


def test_nobody_averages_over_methods_that_are_compared_with_a_baseline():
    grid = {"question": "Why?", "students": ["small"], "grid": {KEY: [0.1, 0.2]}}
    made = suite(blocks={"main": {"question": "Who?"}, "grid": grid})
    block = made.blocks["grid"]
    rows = rows_of(made, block, [record(job, robust=60 + job.seed) for job in jobs_of(made, block)])
    assert len(main_effects(block, rows)) == 1
    assert "on average" not in verdict(block, rows)


def test_robust_under_different_threats_is_not_compared():
    grid = {"question": "Why?", "students": ["small"], "grid": {KEY: [0.1, 0.2]}}
    made = suite(blocks={"main": {"question": "Who?"}, "grid": grid})
    block = made.blocks["grid"]
    best = {("gentle", "0.1"): 80, ("pgd_at", "0.2"): 40}

    def told(job):
        eps = job.values[KEY]
        return {
            "robust": best.get((job.method, eps), 70 if eps == "0.1" else 30) + job.seed,
            "threat": {"norm": "linf", "eps": float(eps)},
        }

    text = verdict(block, rows_of(made, block, [record(job, **told(job)) for job in jobs_of(made, block)]))
    near, far = text.split("At ℓ∞, ε = ")[1:]
    assert near.startswith("0.1: Most robust: `gentle` eps=0.1 (81.0), **+10.0")
    assert far.startswith(
        "0.2: Most robust: `pgd_at` eps=0.2 (41.0). More robust than `pgd_at` beyond seed noise: none"
    )


def test_a_block_says_what_it_lacks(made):
    block, records, _ = found_of(made)
    assert measured(made, block, records).complete
    assert measured(made, block, records).text == "12 of 12 trainings measured"
    assert measured(made, block, []).text == "0 of 12 trainings measured"
    told = "11 of 12 trainings measured; not all of `gentle`, and rows of fewer seeds than others may mislead"
    assert measured(made, block, records[1:]).text == told
    assert f"- **Why?** *{told}.*\n" in in_short(made, {"main": [], "grid": records[1:]})
