"""S2, S4, S7, S8, S10: each fires for its own reason, at its own threshold."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack
from kdrobust.evaluation import CheckSettings, evaluate
from kdrobust.evaluation.checks import REGISTRY, Probe
from kdrobust.evaluation.checks.blackbox import _Tally
from kdrobust.evaluation.checks.curve import LEVELS
from kdrobust.evaluation.checks.effort import unfinished


def probe_of(model, digits, suite, *, eps=0.1, attacks=None, settings=None, n=150, **changes):
    data = {key: digits[key][:n] for key in ("inputs", "labels", "indices")}
    given = suite(eps, **changes)
    if attacks is not None:
        given["attacks"] = attacks
    evaluation = evaluate(model, batch_size=150, seed=0, checks=False, **data, **given)
    return Probe(
        evaluation=evaluation, model=model, inputs=data["inputs"], device="cpu", settings=settings or CheckSettings()
    )


def judge(id, probe):
    return REGISTRY[id].run(probe)


@pytest.fixture
def cnn(digits):
    return digits["models"]["cnn", 0.1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_s4_stores_the_curve(digits, suite, cnn, norm):
    found = judge("S4", probe_of(cnn, digits, suite, norm=norm))
    curve = found.measured
    assert found.verdict == "pass"
    assert curve["n"] == 32
    assert curve["norm"] == norm
    assert curve["eps"] == pytest.approx([(8 if norm == "l2" else 1) * level / 255 for level in LEVELS])
    assert curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    assert curve["accuracy"][0] > 0.9 > curve["accuracy"][5] > curve["accuracy"][-1] == 0
    assert curve["correct"] == [round(accuracy * 32) for accuracy in curve["accuracy"]]


class Band(nn.Module):
    """One grey pixel: class 0 around 0.5 and from 0.7 on, class 1 below 0.1 and between; class 0 climbs upwards."""

    def forward(self, inputs):
        x = inputs.flatten(1)
        second = (x < 0.1) | ((x > 0.55) & (x < 0.7))
        return torch.cat([torch.zeros_like(x), second * 2.0 - 1.0 + 1e-3 * x], dim=1)


def test_s4_fails_where_the_curve_rises(digits, suite, cnn):
    half = torch.cat([torch.full((75, 1), 0.5), torch.zeros(75, 1)])
    labels = np.repeat([0, 1], 75)
    given = probe_of(cnn, digits, suite)
    evaluation = dataclasses.replace(given.evaluation, labels=labels)
    probe = dataclasses.replace(
        given, model=Band(), inputs=half, evaluation=evaluation, settings=CheckSettings(curve_steps=1)
    )
    found = judge("S4", probe)
    assert found.verdict == "fail"
    assert "accuracy rises from 50.0 % at ε = 0.125 to 100.0 % at 0.251" in found.detail


def test_s4_fails_where_the_curve_ends_high(digits, suite, cnn):
    deaf = judge("S4", dataclasses.replace(probe_of(cnn, digits, suite), model=nn.Sequential(_Round(), cnn)))
    assert deaf.verdict == "fail"
    assert "is left at ε = 1, chance is 10.0 %" in deaf.detail


class _Round(nn.Module):
    def forward(self, inputs):
        return inputs.round()


def test_s4_leaves_out_models_with_one_answer(digits, suite):
    class One(nn.Module):
        def forward(self, inputs):
            return torch.tensor([[3.0, 0.0]]) + 0 * inputs.flatten(1)[:, :2]

    probe = dataclasses.replace(probe_of(digits["models"]["linear", 0.0], digits, suite), model=One())
    assert judge("S4", probe).verdict == "skipped"


def test_unfinished_looks_at_the_last_ten_steps():
    rising = torch.linspace(0, 1, 21)
    rested = rising.clamp(max=0.4)
    late = torch.cat([torch.zeros(19), torch.tensor([0.5, 1.0])])
    falling = -rising
    slightly = torch.cat([torch.linspace(0, 1, 11), torch.linspace(1, 1.04, 10)])
    values = torch.stack([rising, rested, late, falling, slightly])
    assert unfinished(values).tolist() == [True, False, True, False, False]


def test_s7_and_s8_see_a_weak_attack(digits, suite, cnn):
    weak = {"weak": GradientAttack(threat=suite(0.1)["threat"], steps=2, step_size=0.005, start="uniform")}
    probe = probe_of(cnn, digits, suite, attacks=weak)
    for id in ("S7", "S8"):
        found = judge(id, probe)
        assert found.verdict == "warn", id
        assert found.measured["survivors"] == 32
        assert 5 <= found.measured.get("broken", found.measured.get("broken_by_long")) < 32
    strong = {
        "strong": GradientAttack(
            threat=suite(0.1)["threat"], steps=60, step_size=0.02, start="uniform", restarts=4, keep="best"
        )
    }
    probe = probe_of(cnn, digits, suite, attacks=strong)
    assert judge("S7", probe).measured["broken_by_long"] <= 1
    assert judge("S8", probe).measured["broken"] <= 1


def test_s8_without_further_starts_finds_nothing(digits, suite, cnn):
    probe = probe_of(cnn, digits, suite, settings=CheckSettings(restarts=1))
    assert judge("S8", probe).measured == {"survivors": 32, "further": 0, "broken": 0}


@pytest.mark.parametrize("id", ["S2", "S7", "S8"])
def test_without_gradient_attacks_there_is_nothing_to_compare(digits, suite, cnn, id):
    assert judge(id, probe_of(cnn, digits, suite, attacks={})).verdict == "skipped"


def test_s10_sees_cross_entropy_saturate(digits, suite, cnn):
    class Hot(nn.Module):
        def forward(self, inputs):
            return 1e3 * cnn(inputs)

    assert judge("S10", probe_of(cnn, digits, suite)).verdict == "pass"
    found = judge("S10", probe_of(Hot(), digits, suite))
    assert found.verdict == "warn"
    assert found.measured["gap"] > 0.2
    assert found.measured["only_cross_entropy"] == 0


def test_s2_counts_the_suites_own_black_box_attacks_on_all_samples(digits, suite, cnn):
    probe = probe_of(cnn, digits, suite)
    evaluation = probe.evaluation
    pgd = evaluation.attacks["pgd"]
    spec = {"attack": "Square", "threat": pgd.spec["threat"], "queries": 100}

    def with_square(broken_survivors):
        correct = pgd.correct.copy()
        correct[np.flatnonzero(pgd.correct)[:broken_survivors]] = False
        square = dataclasses.replace(pgd, spec=spec, correct=correct)
        changed = dataclasses.replace(evaluation, attacks={**evaluation.attacks, "square": square})
        return judge("S2", dataclasses.replace(probe, evaluation=changed))

    survivors = int((evaluation.attacks["fgsm"].correct & pgd.correct).sum())
    few, many = with_square(2), with_square(60)
    assert few.measured["by"]["square"]["survivors"] == survivors
    assert "square" in few.detail
    assert few.verdict == "warn"
    assert many.verdict == "fail"
    assert "square broke" in many.detail


def test_s2_transfers_from_a_given_surrogate(digits, suite, cnn):
    settings = CheckSettings(surrogate=digits["models"]["cnn", 0.0], searched=32)
    found = judge("S2", probe_of(cnn, digits, suite, settings=settings))
    assert set(found.measured["by"]) == {"random search", "rescaled copy", "linear surrogate", "surrogate"}
    itself = judge("S2", probe_of(cnn, digits, suite, settings=dataclasses.replace(settings, surrogate=cnn)))
    weaker = found.measured["by"]["surrogate"]["only_white"]
    assert itself.measured["by"]["surrogate"]["only_white"] < weaker


def test_the_tally_fails_beyond_doubt_only():
    def tally(only_black, only_white, survivors=50):
        return _Tally(n=64, survivors=survivors, only_black=only_black, only_white=only_white).masked

    assert [tally(count, 0) for count in (0, 5, 7, 12, 20)] == [False, False, False, True, True]
    assert not tally(12, 12)
    # few survivors, most of them false
    assert [tally(count, 30, survivors=12) for count in (3, 5, 8)] == [False, False, True]
    assert _Tally.of(np.array([True, True, False]), np.array([True, False, False])) == _Tally(
        n=3, survivors=2, only_black=1, only_white=1
    )
