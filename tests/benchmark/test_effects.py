"""What a key of a grid does on average, and how the answers tell it."""

import math

import pytest
from scipy import stats

from kdrobust.benchmark.answers import in_short, measured, verdict
from kdrobust.benchmark.effects import main_effects, method_effects
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


def against_baseline(*, keep=lambda job: True):
    """`gentle` is 2 points above the baseline at 0.1, and with every seed a point nearer to it or further below at 0.2."""
    grid = {"question": "Why?", "methods": ["pgd_at", "gentle"], "students": ["small"], "grid": {KEY: [0.1, 0.15, 0.2]}}
    block = (made := suite(blocks={"main": {"question": "Who?"}, "grid": grid})).blocks["grid"]
    gaps = {"0.1": lambda seed: 2, "0.15": lambda seed: -3, "0.2": lambda seed: -6 - seed}
    records = [
        record(job, robust=60 + 5 * job.seed + (gaps[job.values[KEY]](job.seed) if job.method == "gentle" else 0))
        for job in jobs_of(made, block)
        if keep(job)
    ]
    return block, rows_of(made, block, records)


def test_methods_are_compared_with_the_baseline_on_average_and_from_end_to_end():
    average, change = method_effects(*against_baseline(), "pgd_at")
    assert (average.key, average.value, average.first, average.settings) == ("method", "gentle", "pgd_at", 3)
    # -7/3, -8/3 and -9/3 by seed
    assert (average.difference.value, average.difference.n) == (pytest.approx(-0.08 / 3), 3)
    assert (change.key, change.value, change.first, change.method) == (KEY, "0.2", "0.1", "gentle")
    # -8, -9 and -10
    assert change.difference.value == pytest.approx(-0.09)
    # both t = √3·|mean| / deviation, 8√3 and 9√3
    p = [2 * stats.t.sf(t * math.sqrt(3), 2) for t in (8, 9)]
    assert [effect.difference.p for effect in (average, change)] == pytest.approx(p)
    assert [effect.difference.corrected for effect in (average, change)] == pytest.approx([2 * p[1], 2 * p[1]])


def test_a_point_of_the_grid_that_a_seed_lacks_leaves_it_out_of_what_needs_it():
    block, rows = against_baseline(keep=lambda job: (job.seed, job.method, job.values[KEY]) != (2, "pgd_at", "0.15"))
    average, change = method_effects(block, rows, "pgd_at")
    assert (average.difference.n, change.difference.n) == (2, 3)
    block, rows = against_baseline(keep=lambda job: job.values[KEY] != "0.2")
    assert method_effects(block, rows, "pgd_at") == []


def test_methods_of_a_block_without_a_grid_have_no_average():
    made = suite(blocks={"main": {"question": "Who?"}})
    block = made.blocks["main"]
    rows = rows_of(made, block, [record(job, robust=60 + job.seed) for job in jobs_of(made, block)])
    assert method_effects(block, [row for row in rows if row.student == "small"], "pgd_at") == []


def test_the_answer_averages_differences_where_methods_are_compared_with_a_baseline():
    block, rows = against_baseline()
    text = verdict(block, rows)
    assert "On average over 3 settings, from `pgd_at`: `gentle`: **-2.7 [-3.5, -1.8], p = 0.008**." in text
    assert "Change of that from eps 0.1 to 0.2: `gentle`: **-9.0 [-11.5, -6.5], p = 0.008**." in text
    assert "settings of the rest" not in text
    assert len(main_effects(block, rows)) == 2, "averages over methods exist, and are not told beside a baseline"


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
