"""Trust checks: broken models are flagged, honest ones are not, and each check fires for its own reason."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack
from kdrobust.errors import AttackError
from kdrobust.evaluation import AttackOutcome, CheckSettings, Evaluation, evaluate, run_checks
from kdrobust.evaluation.checks import REGISTRY, Finding, Probe, tolerance, trust_check


def judged(model, data, suite, eps=0.05, **changes):
    evaluation = evaluate(model, batch_size=64, seed=0, **data, **suite(eps, **changes))
    return evaluation, {check.id: check for check in evaluation.checks}


@pytest.mark.parametrize(
    ("how", "fgsm", "pgd", "failing"),
    [
        # accuracies: the table "Broken-model fixtures" of vectors/attacks.md
        ({"scale": 1e3}, 0.625, 0.625, {"S2", "S3", "S4", "S6"}),
        ({"scale": 1e4}, 0.75, 0.75, {"S2", "S3", "S4", "S6"}),
        ({"rounded": True}, 0.75, 0.75, {"S2", "S3", "S4", "S5", "S6"}),
        ({"detached": True}, 0.75, 0.75, {"S2", "S3", "S4", "S5", "S6"}),
    ],
)
def test_models_that_hide_their_gradients_are_flagged(fixture_model, fixture_data, suite, how, fgsm, pgd, failing):
    evaluation, checks = judged(fixture_model(**how), fixture_data, suite, start="none")
    assert evaluation.clean.mean() == 0.75
    assert (evaluation.attacks["fgsm"].correct.mean(), evaluation.attacks["pgd"].correct.mean()) == (fgsm, pgd)
    assert evaluation.unreliable
    assert failing <= {check.id for check in checks.values() if check.verdict == "fail"}
    assert all(reason.split()[0] in checks for reason in evaluation.reasons)


def test_the_plain_fixture_is_not_flagged(fixture_model, fixture_data, suite):
    evaluation, checks = judged(fixture_model(), fixture_data, suite, start="none")
    assert (evaluation.attacks["fgsm"].correct.mean(), evaluation.attacks["pgd"].correct.mean()) == (0.125, 0.125)
    assert {check.verdict for check in checks.values()} <= {"pass", "skipped"}
    assert not evaluation.unreliable
    assert evaluation.reasons == []


def test_saturation_is_told_from_missing_gradients(fixture_model, fixture_data, suite):
    _, saturated = judged(fixture_model(scale=1e3), fixture_data, suite)
    assert saturated["S6"].measured["cross_entropy/x/zero"] == 0.625
    assert saturated["S6"].measured["margin/x/zero"] == 0.0
    assert "saturated" in saturated["S6"].detail
    _, rounded = judged(fixture_model(rounded=True), fixture_data, suite)
    assert rounded["S6"].measured["margin/x/zero"] == 1.0
    assert "saturated" not in rounded["S6"].detail


def test_a_random_model_is_called_randomised(fixture_model, fixture_data, suite):
    torch.manual_seed(0)
    evaluation, checks = judged(fixture_model(noise=0.05), fixture_data, suite)
    assert checks["S11"].verdict == "fail"
    assert "randomised" in checks["S11"].detail
    assert evaluation.unreliable


@pytest.mark.parametrize("key", [("linear", 0.0), ("linear", 0.2), ("cnn", 0.0), ("cnn", 0.1)], ids=str)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("linf", 0.2), ("l2", 1.0)])
def test_honest_models_raise_no_flag(digits, suite, key, norm, eps):
    data = {name: digits[name] for name in ("inputs", "labels", "indices")}
    evaluation = evaluate(digits["models"][key], batch_size=300, seed=0, **data, **suite(eps, norm=norm, steps=20))
    assert evaluation.reasons == []
    assert {check.id for check in evaluation.checks} == set(REGISTRY)


class Trains(nn.Module):
    """Batch norm that will not leave training mode."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def train(self, mode=True):
        return super().train(True)

    def forward(self, inputs):
        for module in self.model.modules():
            module.training = True
        return self.model(inputs)


def test_batch_norm_that_keeps_training_is_flagged(digits, suite):
    import copy

    data = {name: digits[name][:60] for name in ("inputs", "labels", "indices")}
    model = Trains(copy.deepcopy(digits["models"]["cnn", 0.1]))
    evaluation, checks = judged(model, data, suite, eps=0.1)
    assert checks["S0"].verdict == "fail"
    assert "training mode" in checks["S0"].detail
    assert "running_mean changed" in checks["S0"].detail
    assert checks["S11"].verdict == "fail"
    assert "depend on the batch" in checks["S11"].detail
    assert any("training mode" in effect for effect in evaluation.side_effects)


def test_probabilities_are_refused_by_the_attack_and_by_the_contract(fixture_model, fixture_data, suite):
    model = nn.Sequential(fixture_model(), nn.Softmax(dim=1))
    with pytest.raises(AttackError, match="softmax"):
        judged(model, fixture_data, suite)
    evaluation = evaluate(model, batch_size=8, seed=0, **fixture_data, threat=suite()["threat"], attacks={})
    assert "probabilities" in next(check for check in evaluation.checks if check.id == "S0").detail


def test_an_answer_to_everything_is_not_called_masking(fixture_data, suite):
    class Constant(nn.Module):
        def forward(self, inputs):
            return inputs.flatten(1)[:, :5] * 1e-3 + torch.tensor([5.0, 0, 0, 0, 0])

    evaluation, checks = judged(Constant(), fixture_data, suite)
    assert checks["S3"].verdict == "skipped"
    assert "one answer" in checks["S3"].detail
    assert evaluation.worst_case.mean() == 0.5


def outcome(correct, *, steps, eps=0.05, **changes):
    n = len(correct)
    arrays = {key: np.zeros(n, dtype=np.float32) for key in ("goal_start", "goal_end", "distance", "outside")}
    spec = {"threat": {"norm": "linf", "eps": eps}, "steps": steps}
    made = AttackOutcome(spec=spec, correct=np.asarray(correct, dtype=bool), disputed=np.zeros(n, dtype=bool), **arrays)
    return dataclasses.replace(made, **changes)


def probe(attacks, n=100, model=None):
    evaluation = Evaluation(
        indices=np.arange(n),
        labels=np.zeros(n, dtype=np.int64),
        clean=np.ones(n, dtype=bool),
        attacks=attacks,
        threat={"norm": "linf", "eps": 0.05},
        seed=0,
        batch_size=n,
    )
    model = model or nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return Probe(
        evaluation=evaluation, model=model, inputs=torch.rand(n, 1, 2, 2), device="cpu", settings=CheckSettings()
    )


def mask(n, broken):
    return [row not in broken for row in range(n)]


def test_s1_compares_pairs_on_the_same_samples():
    def verdict(one, many, eps=0.05):
        attacks = {"one": outcome(mask(100, one), steps=1), "many": outcome(mask(100, many), steps=10, eps=eps)}
        return REGISTRY["S1"].run(probe(attacks))

    assert verdict(range(30), range(60)).verdict == "pass"
    assert verdict(range(30), range(20)).verdict == "fail"
    assert verdict(range(3), ()).verdict == "warn"
    # more broken by both taken alone, but the difference is within two standard errors
    assert verdict(range(20), range(8, 27)).verdict == "warn"
    assert verdict(range(8), range(4, 40)).verdict == "pass"
    assert verdict(range(30), range(20), eps=0.1).verdict == "skipped"
    found = verdict(range(30), range(25, 30))
    assert found.measured == {"one and many": {"only one": 25, "only many": 0}}


def test_s0_looks_at_ball_box_and_finiteness():
    def detail(**changes):
        return REGISTRY["S0"].run(probe({"pgd": outcome(mask(20, ()), steps=5, **changes)}, n=20)).detail

    far = np.zeros(20, dtype=np.float32)
    far[3] = 0.0500021
    assert "left the ε-ball" in detail(distance=far)
    far[3] = 0.0500005
    assert "ball" not in detail(distance=far)
    far[3] = 2e-6
    assert "left [0, 1]" in detail(outside=far)
    far[3] = np.nan
    assert "not finite" in detail(distance=far)


def test_s9_fails_only_beyond_doubt():
    def verdict(fallen, n=100):
        end = np.ones(n, dtype=np.float32)
        end[:fallen] = -1.0
        return REGISTRY["S9"].run(probe({"pgd": outcome(mask(n, ()), steps=5, goal_end=end)}, n=n)).verdict

    assert [verdict(0), verdict(1), verdict(8), verdict(12), verdict(1, n=8)] == [
        "pass",
        "warn",
        "warn",
        "fail",
        "warn",
    ]
    broken = {"pgd": outcome(mask(10, range(10)), steps=5)}
    assert REGISTRY["S9"].run(probe(broken, n=10)).verdict == "skipped"


def test_s13_counts_what_a_second_look_saw_differently():
    def verdict(count):
        disputed = np.arange(100) < count
        return REGISTRY["S13"].run(probe({"pgd": outcome(mask(100, ()), steps=5, disputed=disputed)})).verdict

    assert [verdict(0), verdict(2), verdict(20)] == ["pass", "warn", "fail"]
    assert REGISTRY["S13"].run(probe({})).verdict == "skipped"


def test_attacks_that_count_no_steps_have_survivors_too():
    spec = {"attack": "Ensemble", "threat": {"norm": "linf", "eps": 0.05}}
    given = {"ensemble": dataclasses.replace(outcome(mask(100, range(60)), steps=1), spec=spec)}
    standing = probe(given).withstood()
    assert standing.sum() == 40
    assert REGISTRY["S5"].run(probe(given)).measured["survivors"] == 40
    square = {"square": dataclasses.replace(given["ensemble"], spec=spec | {"queries": 9})}
    assert probe(given | square).black_box().keys() == {"square"}
    assert not probe(square).withstood().any()
    wider = {"wider": outcome(mask(100, range(90)), steps=5, eps=0.2)}
    assert (probe(given | wider).withstood() == standing).all()


def test_s5_needs_a_gradient_attack_and_survivors():
    assert REGISTRY["S5"].run(probe({})).verdict == "skipped"
    assert REGISTRY["S5"].run(probe({"pgd": outcome(mask(10, range(10)), steps=5)}, n=10)).verdict == "skipped"


def test_s6_sees_gradients_that_are_not_finite():
    class Explodes(nn.Module):
        def forward(self, inputs):
            flat = inputs.flatten(1)[:, :3]
            return flat + 0.0 * (flat - flat.detach()).sqrt()

    found = REGISTRY["S6"].run(probe({}, model=Explodes()))
    assert found.verdict == "fail"
    assert found.measured["margin/x/not_finite"] == 1.0


def test_tolerance_is_the_larger_of_points_and_errors():
    assert tolerance(0, 0, 100) == 0.002
    assert tolerance(10, 10, 100) == pytest.approx(2 * np.sqrt(20) / 100)
    assert tolerance(1, 0, 10**6) == 0.002


def counted(model, evaluation, data, settings=None):
    """Samples that passed through the model in the checks: without and with a graph; and the largest batch."""
    seen = {False: 0, True: 0}
    largest = 0

    def count(module, inputs):
        nonlocal largest
        seen[torch.is_grad_enabled()] += len(inputs[0])
        largest = max(largest, len(inputs[0]))

    wrapped = nn.Sequential(model)
    wrapped.register_forward_pre_hook(count)
    return run_checks(evaluation, wrapped, settings=settings, **data), seen, largest


def test_checks_cost_no_more_than_they_may(digits, suite):
    data = {name: digits[name] for name in ("inputs", "labels", "indices")}
    model = digits["models"]["linear", 0.2]
    evaluation = evaluate(model, batch_size=300, seed=0, **data, **suite(0.1), checks=False)
    few = CheckSettings(
        samples=16, survivors=8, searched=6, noise_draws=3, queries=5, unbounded_steps=4, curve_steps=2, short_steps=3,
        long_steps=6, restarts=3, replayed=2, forwards=2, alone=2,
    )  # fmt: skip
    checks, seen, largest = counted(model, evaluation, data, few)
    assert largest <= 16
    every = 16 * (1 + (1 + 5) + 3 + 4 + (2 + 1) + 7 + 3) + 2 + 2
    searched = 6 * (5 + 5 + 3 + 4)
    compared = 8 * (1 + 8 * 3 + (4 + 7) + 2 * 4 + 2 * 4)
    assert sum(seen.values()) <= every + searched + compared + 2 * 14
    assert {check.id: check for check in checks}["S5"].measured["draws"] == 3


def test_all_checks_cost_less_than_twice_pgd_20_on_540_samples(digits, suite):
    data = {name: digits[name] for name in ("inputs", "labels", "indices")}
    model = digits["models"]["cnn", 0.1]
    evaluation = evaluate(model, batch_size=300, seed=0, **data, **suite(0.1, steps=20), checks=False)
    _, seen, largest = counted(model, evaluation, data)
    assert largest <= 128
    # a gradient costs a forward pass and about twice as much backwards
    assert seen[True] + seen[False] / 3 < 2 * 20 * 540


def test_a_new_check_is_one_function(fixture_model, fixture_data, suite):
    @trust_check("S99", "lucky number", "The seed is not 13.")
    def lucky(probe):
        return Finding(verdict="fail" if probe.evaluation.seed == 13 else "pass", detail="looked")

    @trust_check("S98", "cannot run", "Always raises.")
    def cannot(probe):
        raise AttackError("no way")

    try:
        evaluation = evaluate(fixture_model(), batch_size=8, seed=13, **fixture_data, **suite())
    finally:
        del REGISTRY["S99"], REGISTRY["S98"]
    assert [check.id for check in evaluation.checks[-2:]] == ["S98", "S99"]
    assert evaluation.reasons == ["S98 cannot run: could not be run: no way", "S99 lucky number: looked"]


def test_checks_are_refused_on_other_samples(fixture_model, fixture_data, suite):
    evaluation, _ = judged(fixture_model(), fixture_data, suite)
    with pytest.raises(ValueError, match="exactly the samples"):
        run_checks(evaluation, fixture_model(), **{key: value[:5] for key, value in fixture_data.items()})


def test_random_restarts_and_margin_are_judged_too(fixture_model, fixture_data, suite):
    threat = suite()["threat"]
    attacks = {
        "fgsm": suite()["attacks"]["fgsm"],
        "margin": GradientAttack(threat=threat, goal="margin", steps=10, step_size=0.01, start="uniform", restarts=2),
    }
    evaluation = evaluate(fixture_model(), batch_size=3, seed=0, **fixture_data, threat=threat, attacks=attacks)
    assert evaluation.reasons == []
