"""S0, S13, S14, S15, S16: what an evaluation must say, and must not say."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack
from kdrobust.evaluation import CheckSettings, evaluate, to_result
from kdrobust.evaluation.checks import REGISTRY, Probe
from kdrobust.evaluation.checks.record import data_sha256, weights_sha256
from kdrobust.evaluation.checks.replay import rebuilt
from kdrobust.evaluation.outcome import attack_seed
from kdrobust.randomness import address


@pytest.fixture
def probe(digits, suite):
    data = {key: digits[key][:100] for key in ("inputs", "labels", "indices")}
    model = digits["models"]["cnn", 0.1]

    def make(changes=None, **attacks):
        given = suite(0.1)
        given["attacks"] |= attacks
        evaluation = evaluate(model, batch_size=100, seed=5, checks=False, **data, **given)
        if changes is not None:
            outcomes = dict(evaluation.attacks)
            outcomes["pgd"] = dataclasses.replace(outcomes["pgd"], **changes(outcomes["pgd"]))
            evaluation = dataclasses.replace(evaluation, attacks=outcomes)
        settings = CheckSettings()
        return Probe(evaluation=evaluation, model=model, inputs=data["inputs"], device="cpu", settings=settings)

    return make


def judge(id, probe):
    return REGISTRY[id].run(probe)


def test_minimum_norm_attacks_may_leave_the_ball_but_not_the_box(probe):
    def nearest(outcome):
        spec = {"attack": "Nearest", "minimum_norm": True, "steps": 10, "threat": outcome.spec["threat"]}
        return {"spec": spec, "distance": outcome.distance + 0.5}

    found = probe(nearest)
    assert found.evaluation.attacks["pgd"].minimum_norm
    assert judge("S0", found).verdict == "pass"
    assert "pgd" not in found.gradient_attacks()
    assert judge("S1", found).verdict == "skipped"
    assert judge("S9", found).verdict == "skipped"
    assert judge("S14", found).verdict == "pass"
    assert judge("S13", found).measured["replayed"] == {}
    outside = probe(lambda outcome: nearest(outcome) | {"outside": outcome.outside + 0.1})
    assert "left [0, 1]" in judge("S0", outside).detail


def test_s13_attacks_again_exactly_as_before(probe):
    found = probe()
    outcome = found.evaluation.attacks["pgd"]
    attack = rebuilt(outcome)
    assert attack is not None
    assert attack.describe() == outcome.spec
    assert attack_seed(5, "pgd") == address(5, "evaluation/pgd")
    replayed = judge("S13", found).measured["replayed"]
    assert list(replayed) == ["pgd"]
    assert replayed["pgd"]["replayed"] == 16
    assert replayed["pgd"]["not_repeated"] == 0


class Band(nn.Module):
    """One grey pixel: class 1 between 0.55 and 0.7, class 0 elsewhere; class 0 climbs upwards."""

    def forward(self, inputs):
        second = (inputs > 0.55) & (inputs < 0.7)
        return torch.cat([torch.zeros_like(inputs), second * 2.0 - 1.0 + 1e-3 * inputs], dim=1)


@pytest.mark.parametrize(("count", "verdict"), [(3, "warn"), (20, "fail")])
def test_s13_sees_what_the_attack_walked_over(suite, count, verdict):
    # the others start so low that they do not get there
    inputs = torch.cat([torch.full((count, 1), 0.5), torch.zeros(20 - count, 1)])
    threat = suite(0.4)["threat"]
    over = GradientAttack(threat=threat, steps=4, step_size=0.1, start="none")
    evaluation = evaluate(
        Band(), inputs=inputs, labels=torch.zeros(20, dtype=torch.long), indices=torch.arange(20), threat=threat,
        attacks={"over": over}, batch_size=20, seed=0, settings=CheckSettings(replayed=20),
    )  # fmt: skip
    assert evaluation.worst_case.all()
    found = {check.id: check for check in evaluation.checks}["S13"]
    assert found.verdict == verdict
    assert found.measured["replayed"]["over"] == {"replayed": 20, "passed_by": count, "not_repeated": 0}
    assert f"{count} of 20 survivors passed an adversarial example by" in found.detail


@pytest.mark.parametrize(
    "changes",
    [{"attack": "Else"}, {"goal": "my_goal"}, {"model_mode": "train"}, {"surprise": 1}, {"goal": "kl_to_teacher"}],
)
def test_s13_leaves_alone_what_it_cannot_rebuild(probe, changes):
    found = probe(lambda outcome: {"spec": outcome.spec | changes})
    assert judge("S13", found).measured["replayed"] == {}


def test_s14_is_the_and_of_all_verdicts(probe):
    found = judge("S14", probe()).measured
    evaluation = probe().evaluation
    assert (found["n"], found["correct"]) == (100, int(evaluation.worst_case.sum()))
    assert found["interval"] == pytest.approx(to_result(evaluation)["worst_case"]["interval"])
    assert found["correct"] / 100 <= found["lowest_single"] <= found["mean_over_attacks"]
    repaired = probe(lambda outcome: {"correct": np.ones(100, dtype=bool)})
    assert "wrong without attack" in judge("S14", repaired).detail
    assert judge("S14", repaired).verdict == "fail"
    short = probe(lambda outcome: {"correct": outcome.correct[:7]})
    assert "pgd has verdicts on 7 of 100 samples" in judge("S14", short).detail


def test_s14_warns_of_other_threats(probe, suite):
    wide = GradientAttack(threat=suite(0.3)["threat"], steps=2, step_size=0.1)
    found = judge("S14", probe(wide=wide))
    assert (found.verdict, found.detail) == ("warn", "wide attacks under linf, ε = 0.3")


def test_s15_discloses_hashes_that_tell_models_and_data_apart(probe):
    found = judge("S15", probe())
    assert found.verdict == "pass"
    assert {
        "weights_sha256",
        "data_sha256",
        "parameters",
        "seconds",
        "seed",
        "batch_size",
        "device",
        "versions",
    } == set(found.measured)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = weights_sha256(model)
    assert before == weights_sha256(model)
    model[1].running_mean += 1e-3
    assert weights_sha256(model) != before
    inputs, labels = torch.arange(6, dtype=torch.uint8).view(2, 3), torch.tensor([1, 0])
    assert data_sha256(inputs, labels) != data_sha256(inputs, labels.flip(0))
    assert data_sha256(inputs, labels) != data_sha256(inputs.view(3, 2), labels)
    told = hashlib.sha256(b"torch.uint8/(2, 3)" + bytes(range(6)) + labels.numpy().tobytes()).hexdigest()
    assert data_sha256(inputs, labels) == told


@pytest.mark.parametrize(
    ("spec", "verdict", "told"),
    [
        ({"threat": {"norm": "linf", "eps": 0.1}}, "fail", "pgd does not say its attack"),
        ({"attack": "Mine", "threat": {"norm": "linf"}}, "fail", "pgd does not say its eps"),
        ({}, "fail", "pgd does not say its attack, threat, norm, eps"),
        ({"attack": "Mine", "threat": {"norm": "linf", "eps": 0.1}}, "warn", "none of its settings"),
    ],
)
def test_s15_misses_what_is_not_said(probe, spec, verdict, told):
    found = judge("S15", probe(lambda outcome: {"spec": spec}))
    assert found.verdict == verdict
    assert told in found.detail


def test_s16_hands_on_what_attacks_warn_of(probe):
    assert judge("S16", probe()).verdict == "pass"
    found = judge("S16", probe(lambda outcome: {"notes": ("randomised model", "zero gradient")}))
    assert found.verdict == "warn"
    assert found.detail == "pgd: randomised model; pgd: zero gradient"
    assert found.measured == {"notes": {"pgd": ["randomised model", "zero gradient"]}}
