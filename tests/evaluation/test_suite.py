"""The suite: honest counts, sample by sample, whatever the batch size or the number of processes."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import AttackResult, GradientAttack, Threat
from kdrobust.errors import AttackError
from kdrobust.evaluation import evaluate, merge, per_sample, run_checks, to_result


@pytest.fixture(scope="module")
def trained(digits):
    data = {key: digits[key] for key in ("inputs", "labels", "indices")}
    return digits["models"]["cnn", 0.1], data


def ran(trained, suite, **changes):
    model, data = trained
    arguments = {"batch_size": 64, "seed": 0, "checks": False, **data, **suite(0.1), **changes}
    return evaluate(model, **arguments)


def verdicts(evaluation):
    return {name: outcome.correct.tolist() for name, outcome in evaluation.attacks.items()}


def test_counts_are_those_of_a_plain_loop(trained, suite):
    model, data = trained
    threat = Threat(norm="linf", eps=0.1)
    x, y = data["inputs"].float() / 255, data["labels"]
    evaluation = ran(trained, suite)
    assert evaluation.clean.tolist() == (model(x).argmax(1) == y).tolist()
    moved = (x + 0.1 * _gradient(model, x, y).sign()).clamp(0, 1)
    survived = (model(moved).argmax(1) == y) & torch.from_numpy(evaluation.clean)
    assert evaluation.attacks["fgsm"].correct.tolist() == survived.tolist()
    distance = threat.distance(moved, x)[torch.from_numpy(evaluation.clean)]
    assert evaluation.attacks["fgsm"].distance[evaluation.clean] == pytest.approx(distance.numpy(), abs=1e-6)


def _gradient(model, x, y):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(nn.functional.cross_entropy(model(x), y, reduction="sum"), x)[0]


def test_worst_case_is_each_samples_and_wrong_samples_are_broken_without_attack(trained, suite):
    evaluation = ran(trained, suite)
    fgsm, pgd = (evaluation.attacks[name] for name in ("fgsm", "pgd"))
    assert (evaluation.worst_case == (evaluation.clean & fgsm.correct & pgd.correct)).all()
    assert 0 < evaluation.worst_case.sum() < evaluation.clean.sum() < len(evaluation)
    wrong = ~evaluation.clean
    assert wrong.any()
    for outcome in (fgsm, pgd):
        assert not outcome.correct[wrong].any()
        assert np.isnan(outcome.distance[wrong]).all()
        assert np.isfinite(outcome.goal_end[evaluation.clean]).all()


def test_batch_size_and_order_change_no_verdict(trained, suite):
    model, data = trained
    reference = ran(trained, suite)
    for batch_size in (1000, 37, 7):
        assert verdicts(ran(trained, suite, batch_size=batch_size)) == verdicts(reference)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(5))
    shuffled = ran((model, {key: value[order] for key, value in data.items()}), suite)
    assert verdicts(shuffled) == verdicts(reference)
    assert (shuffled.indices == reference.indices).all()


def test_seed_moves_random_starts_only(trained, suite):
    first, again, other = (ran(trained, suite, seed=seed) for seed in (0, 0, 1))
    assert (first.attacks["pgd"].goal_start[first.clean] == again.attacks["pgd"].goal_start[first.clean]).all()
    assert (first.attacks["pgd"].goal_start[first.clean] != other.attacks["pgd"].goal_start[first.clean]).any()
    assert verdicts(first)["fgsm"] == verdicts(other)["fgsm"]


def test_uint8_and_floats_are_the_same_pixels(trained, suite):
    model, data = trained
    floats = {**data, "inputs": data["inputs"].float() / 255}
    assert verdicts(ran((model, floats), suite)) == verdicts(ran(trained, suite))


def test_parts_of_several_processes_add_up_to_the_whole(trained, suite):
    model, data = trained
    whole = ran(trained, suite)
    parts = [ran((model, {key: value[rank::3] for key, value in data.items()}), suite) for rank in range(3)]
    parts.append(ran((model, {key: value[:0] for key, value in data.items()}), suite))
    merged = merge([pickle.loads(pickle.dumps(part)) for part in reversed(parts)])
    assert len(merged) == 300
    assert verdicts(merged) == verdicts(whole)
    assert (merged.worst_case == whole.worst_case).all()
    for key in ("indices", "labels", "clean"):
        assert (getattr(merged, key) == getattr(whole, key)).all()
    checks = run_checks(merged, model, **data)
    assert [check.verdict for check in checks] == [check.verdict for check in run_checks(whole, model, **data)]


def test_a_sample_in_two_parts_and_parts_of_different_suites_are_refused(trained, suite):
    model, data = trained
    first, second = (ran((model, {k: v[a : a + 20] for k, v in data.items()}), suite) for a in (0, 19))
    with pytest.raises(ValueError, match="sample 1219 was evaluated more than once"):
        merge([first, second])
    with pytest.raises(ValueError, match="different attacks"):
        merge([first, dataclasses.replace(second, seed=1)])
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([])


def test_the_model_is_left_as_it_was(trained, suite):
    model, data = trained
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    try:
        evaluation = evaluate(model, batch_size=100, seed=0, **data, **suite(0.1))
        assert evaluation.side_effects == ()
        assert model.training
        assert not model[1].training
        assert model[2].training
    finally:
        model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_modes_are_restored_after_an_exception(trained, suite):
    model, data = trained
    model.train()
    try:
        with pytest.raises(AttackError, match="pixels lie in"):
            ran((model, {**data, "inputs": data["inputs"].float()}), suite)
        assert model.training
    finally:
        model.eval()


def test_it_works_where_gradients_are_switched_off(trained, suite):
    model, data = trained
    few = {key: value[:40] for key, value in data.items()}
    with torch.inference_mode():
        inside = evaluate(model, batch_size=40, seed=0, **few, **suite(0.1))
    assert verdicts(inside) == verdicts(ran((model, few), suite))
    assert not inside.unreliable


def test_an_attack_that_claims_too_little_or_too_much_is_not_believed(trained, suite):
    class Claims:
        def __init__(self, claim):
            self.claim = claim

        def run(self, model, inputs, labels, *, keys, seed):
            moved = (inputs + 0.1 * _gradient(model, inputs, labels).sign()).clamp(0, 1)
            goal = torch.zeros(len(labels))
            return AttackResult(adversarial=moved, goal_start=goal, goal_end=goal, fooled=self.claim(labels))

        def describe(self):
            return {"threat": {"norm": "linf", "eps": 0.1}}

    evaluation = ran(
        trained,
        suite,
        attacks={
            "fgsm": suite(0.1)["attacks"]["fgsm"],
            "modest": Claims(lambda y: torch.zeros_like(y, dtype=torch.bool)),
            "boastful": Claims(lambda y: torch.ones_like(y, dtype=torch.bool)),
        },
    )
    assert verdicts(evaluation)["modest"] == verdicts(evaluation)["fgsm"]
    assert not evaluation.attacks["boastful"].correct.any()
    assert evaluation.attacks["modest"].disputed.sum() > 0


def test_progress_is_told_to_the_end(trained, suite):
    told = []
    ran(trained, suite, progress=lambda *what: told.append(what), checks=True)
    assert told[0] == ("clean", 300, 300)
    last = {name: (done, total) for name, done, total in told}
    assert list(last) == ["clean", "fgsm", "pgd", "checks"]
    assert all(done == total for done, total in last.values())


def test_l2_distances_are_euclidean(trained, suite):
    evaluation = ran(trained, suite, **suite(0.5, norm="l2"))
    distance = evaluation.attacks["pgd"].distance[evaluation.clean]
    # at the last projection the box may cut a little off every sample
    assert 0.499 < distance.max() <= 0.5 + 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"indices": torch.zeros(300, dtype=torch.long)}, "more than once"),
        ({"labels": torch.zeros(7, dtype=torch.long)}, "as many inputs"),
        ({"attacks": {"clean": GradientAttack(threat=Threat(norm="linf", eps=0.1))}}, "cannot be called 'clean'"),
    ],
)
def test_nonsense_is_refused(trained, suite, changes, message):
    with pytest.raises(ValueError, match=message):
        ran(trained, suite, **changes)


class Nearest:
    """A made-up minimum-norm attack: moves sample i by i/100 and says that everything is fooled."""

    whole = True

    def __init__(self, threat):
        self.threat, self.calls = threat, 0

    def run(self, model, inputs, labels, *, keys, seed):
        self.calls += 1
        moved = inputs + 0.01 * keys.view(-1, *[1] * (inputs.dim() - 1))
        zeros = torch.zeros(len(labels))
        fooled = torch.ones(len(labels), dtype=torch.bool)
        return AttackResult(
            adversarial=moved.clamp(max=1.0), goal_start=zeros, goal_end=zeros, fooled=fooled,
            extra={"queries": 7.0 + keys.float()}, notes=("told once",),
        )  # fmt: skip

    def describe(self):
        return {"attack": "Nearest", "minimum_norm": True, "threat": self.threat.describe()}


def test_a_minimum_norm_attack_breaks_only_what_lies_within_eps():
    threat = Threat(norm="linf", eps=0.05)
    attack = Nearest(threat)
    inputs, indices = torch.zeros(12, 1, 2, 2), torch.arange(12)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    labels = model(inputs).argmax(dim=1)
    found = evaluate(
        model, inputs=inputs, labels=labels, indices=indices, threat=threat, attacks={"nearest": attack},
        batch_size=4, seed=0, checks=False,
    )  # fmt: skip
    outcome = found.attacks["nearest"]
    assert attack.calls == 1  # `whole`: all samples at once
    assert outcome.correct.tolist() == [index > 5 for index in range(12)]
    assert outcome.extra["queries"].tolist() == [7.0 + index for index in range(12)]
    assert outcome.notes == ("told once",)
    assert per_sample(found)["nearest/queries"][3] == 10.0
    assert to_result(found)["attacks"]["nearest"]["notes"] == ["told once"]


def test_merging_keeps_extra_numbers_and_notes():
    threat = Threat(norm="linf", eps=0.05)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    inputs, indices = torch.zeros(6, 1, 2, 2), torch.arange(6)
    labels = model(inputs).argmax(dim=1)
    parts = [
        evaluate(
            model, inputs=inputs[rows], labels=labels[rows], indices=indices[rows], threat=threat,
            attacks={"nearest": Nearest(threat)}, batch_size=4, seed=0, checks=False,
        )
        for rows in (slice(0, 4), slice(4, 6), slice(6, 6))
    ]  # fmt: skip
    whole = merge(parts).attacks["nearest"]
    assert whole.extra["queries"].tolist() == [7.0 + index for index in range(6)]
    assert whole.notes == ("told once",)
