"""What a search gains, and what the official AutoAttack takes, on records that nobody trained."""

import pytest

from kdrobust.benchmark.answers import in_short
from kdrobust.benchmark.asides import told_gains, told_official, tuning_gains, untuned
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.rows import rows_of
from tests.benchmark.suites import node, record, suite

TUNED = {"trials": 3, "robust_validation_accuracy": 0.5, "overrides": ["optimizer.lr=0.02"]}
SPACE = {"optimizer.lr": {"type": "float", "low": 0.001, "high": 0.1}}


@pytest.fixture
def made():
    blocks = node()["blocks"]
    blocks["tuned"] |= {"methods": ["pgd_at", "gentle"]}
    blocks["tuned"]["tune"]["spaces"] = {"pgd_at": SPACE, "gentle": SPACE}
    return suite(blocks=blocks)


def rows(made, block, robust, **more):
    """Rows of the small student, its robust counts told by method and seed."""
    jobs = [job for job in jobs_of(made, made.blocks[block]) if job.method in robust and job.student == "small"]
    found = [record(job, robust=robust[job.method][job.seed], **more) for job in jobs]
    return rows_of(made, made.blocks[block], found)


def all_of(found):
    return [record for row in found for record in row.records]


def test_a_search_s_gain_is_paired_by_seed_and_corrected_among_the_methods(made):
    main = all_of(rows(made, "main", {"pgd_at": (60, 62, 61), "gentle": (50, 52, 54), "standard": (1, 2, 3)}))
    tuned = rows(made, "tuned", {"pgd_at": (61, 61, 61), "gentle": (53, 56, 59)}, tuned=TUNED)
    assert [row.method for row in tuned] == ["pgd_at", "gentle"]
    plain, gentle = tuning_gains(tuned, main)
    assert (plain.value, gentle.value) == pytest.approx((0.0, 0.04))
    # 3, 4 and 5 points: t = 6.93 with two degrees of freedom, p = 0.0202, the smaller of two
    assert (gentle.p, gentle.corrected) == pytest.approx((0.0202, 0.0404), abs=1e-4)
    assert plain.corrected == 1.0
    assert untuned(tuned, main) == pytest.approx([0.61, 0.52])
    assert told_gains(tuned, main) == (
        "Against the suite's own settings (block `main`) tuning changes: `gentle` **+4.0 [+1.5, +6.5], p = 0.040**; "
        "`pgd_at` +0.0 [-2.5, +2.5], p = 1.000."
    )


def test_only_seeds_that_both_have_are_compared(made):
    main = all_of(rows(made, "main", {"gentle": (50, 60, 70)}))
    tuned = rows(made, "tuned", {"gentle": (54, 65, 90)}, tuned=TUNED)
    (gain,) = tuning_gains(tuned, main[:2])
    assert (gain.value, gain.n) == (pytest.approx(0.045), 2)
    assert untuned(tuned, main[:2]) == pytest.approx([0.55])
    (gain,) = tuning_gains(tuned, main[:1])
    assert (round(gain.value, 3), gain.corrected) == (0.04, None)
    assert tuning_gains(tuned, []) == untuned(tuned, []) == [None]
    assert told_gains(tuned, []) == ""


def test_what_was_not_searched_for_gains_nothing(made):
    found = rows(made, "main", {"gentle": (50, 60, 70)})
    assert tuning_gains(found, all_of(found)) == untuned(found, all_of(found)) == [None]


def test_the_official_attack_stands_beside_ours(made):
    def attacked(job, ours, official):
        return record(job, robust=min(ours, official), attacks={"pgd20": 99, "cascade": ours, "autoattack": official})

    jobs = [job for job in jobs_of(made, made.blocks["main"]) if job.student == "small" and job.seed == 0]
    counts = [(60, 58), (61, 57), (50, 51)]
    found = [attacked(job, *pair) for job, pair in zip(jobs, counts, strict=True)]
    assert told_official(rows_of(made, made.blocks["main"], found)) == (
        "Beside our cascade on the same samples the official AutoAttack leaves -4.0 to +1.0 points (-1.7 on average); "
        "of 3 pairs of students 1 stand the other way round."
    )
    assert told_official(rows_of(made, made.blocks["main"], found[:1])).endswith("-2.0 points (-2.0 on average).")
    assert told_official(rows(made, "main", {"gentle": (50, 60, 70)})) == ""


def test_both_are_told_in_short(made):
    main = all_of(rows(made, "main", {"gentle": (50, 52, 54)}))
    tuned = all_of(rows(made, "tuned", {"gentle": (53, 56, 59)}, tuned=TUNED))
    attacks = {"pgd20": 99, "cascade": 50, "autoattack": 49}
    cost = all_of(rows(made, "cost", {"gentle": (49,)}, attacks=attacks))
    told = in_short(made, {"main": main, "cost": cost, "ladder": [], "tuned": tuned})
    assert told.count("the official AutoAttack leaves -1.0 to -1.0 points") == 1
    assert told.endswith("tuning changes: `gentle` **+4.0 [+1.5, +6.5], p = 0.020**.")
