"""Attacks on models of every floating type: answers lie in ball and box as float64 measures them, and are true."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdrobust.attacks import AttackCallback, AttackResult, GradientAttack, JointAttack, Threat, TransferAttack
from kdrobust.attacks.external.base import ExternalAttack, Found
from kdrobust.errors import AttackError
from kdrobust.evaluation import evaluate
from tests.attacks.zoo import EPS, EVERY, NEAREST, attacks_of, batch, network

DTYPES = (torch.bfloat16, torch.float16, torch.float64)
#: By how much a float64 answer may leave the ball: its own rounding.
ROUNDING = {torch.float64: 1e-15}

every = pytest.mark.parametrize(("norm", "name"), EVERY)
of_every_type = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def given_batch(dtype, count=12, seed=1):
    inputs, labels = batch(count, seed, dtype=torch.float64)
    inputs[0, 0, 0, :3] = torch.tensor([0.0, 1.0, 1e-7])
    return inputs.to(dtype), labels


def answers(model, inputs):
    with torch.no_grad():
        return model.eval()(inputs).argmax(1)


def assert_honest(found, inputs, threat, within=True):
    assert found.dtype == inputs.dtype
    exact, clean = found.double(), inputs.double()
    assert bool(exact.isfinite().all())
    low, high = threat.box
    assert low <= float(exact.min()) <= float(exact.max()) <= high
    away = (exact - clean).flatten(1)
    size = away.abs().amax(1) if threat.norm == "linf" else away.norm(dim=1)
    if threat.relative:
        size = size / clean.flatten(1).norm(dim=1)
    if within:
        assert float(size.max()) <= float(threat.eps) + ROUNDING.get(inputs.dtype, 0.0)
    return size


@functools.cache
def broken_in_double(norm, name):
    return int(attacks_of(norm)[name].run(network(), *given_batch(torch.float64), seed=3).fooled.sum())


@every
@of_every_type
def test_answers_are_inside_and_true(norm, name, dtype):
    model, (inputs, labels) = network(dtype=dtype), given_batch(dtype)
    attack = attacks_of(norm)[name]
    result = attack.run(model, inputs, labels, seed=3)
    size = assert_honest(result.adversarial, inputs, attack.threat, within=name not in NEAREST)
    assert torch.equal(result.fooled, answers(model, result.adversarial) != labels)
    assert bool(result.goal_end[~result.fooled].isfinite().all())
    if name in NEAREST:
        told = result.extra["distance"]
        known = ~told.isnan()
        torch.testing.assert_close(told[known].double(), size[known], atol=1e-6, rtol=1e-6)
    # rounding weakens an attack on numbers that coarse, but not by much
    assert int(result.fooled.sum()) >= broken_in_double(norm, name) - 3


@of_every_type
@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("start", ["none", "uniform", "uniform_unclipped", "normal"])
def test_the_training_attack(norm, start, dtype):
    model, teacher, (inputs, labels) = network(dtype=dtype), network(3, dtype=dtype), given_batch(dtype)
    threat = Threat(norm=norm, eps=EPS[norm])
    each = torch.linspace(0, 1, len(inputs), dtype=dtype)
    for goal, extra in (
        ("cross_entropy", {"momentum": 1.0}),
        ("kl_to_teacher", {}),
        ("kl_to_live_teacher", {"model_mode": "train"}),
        ("kl_to_linear_teacher", {"restarts": 2, "keep": "fooling"}),
    ):
        attack = GradientAttack(threat=threat, steps=3, step_size=EPS[norm] / 3, start=start, goal=goal, **extra)
        survived = torch.zeros(len(inputs), dtype=dtype)
        found = attack(model, inputs, labels, teacher=teacher, seed=1, scale=0.7, survived=survived)
        assert_honest(found, inputs, Threat(norm=norm, eps=0.7 * EPS[norm]))
        assert float((found - inputs).abs().max()) > 0.0
        found = attack(model, inputs, labels, teacher=teacher, seed=1, scale=each)
        assert torch.equal(found[0], inputs[0])
        assert_honest(found, inputs, threat)


@of_every_type
def test_relative_joint_and_transferred(dtype):
    model, (inputs, labels) = network(dtype=dtype), given_batch(dtype)
    relative = Threat(norm="l2", eps=0.05, relative=True)
    attack = GradientAttack(threat=relative, steps=4, step_size=0.02, start="uniform")
    result = attack.run(model, inputs, labels)
    assert_honest(result.adversarial, inputs, relative)
    assert torch.equal(result.fooled, answers(model, result.adversarial) != labels)
    for norm, eps in EPS.items():
        threat = Threat(norm=norm, eps=eps)
        joint = JointAttack(threat=threat, steps=3, step_size=eps / 2)
        result = joint.run(model, network(4, 2, dtype=dtype), inputs, labels)
        assert_honest(result.adversarial, inputs, threat)
        assert torch.equal(result.fooled, answers(model, result.adversarial) != labels)
        made = TransferAttack(source=network(5, dtype=dtype), attack=attacks_of(norm)["gradient"])
        result = made.run(model, inputs, labels)
        assert_honest(result.adversarial, inputs, threat)
        assert torch.equal(result.fooled, answers(model, result.adversarial) != labels)


class Far(ExternalAttack):
    """A library that answers far outside of the ball."""

    def search(self, model, inputs, labels, *, classes, seed, partial):
        return Found(adversarial=inputs + torch.where(inputs < 0.5, 0.3, -0.3))

    def describe(self):
        return {}


@of_every_type
@pytest.mark.parametrize("norm", EPS)
def test_attacks_of_other_libraries(norm, dtype):
    model, (inputs, labels) = network(dtype=dtype), given_batch(dtype)
    threat = Threat(norm=norm, eps=EPS[norm])
    result = Far(threat=threat, batch_size=5).run(model, inputs, labels)
    assert_honest(result.adversarial, inputs, threat)
    assert torch.equal(result.fooled, answers(model, result.adversarial) != labels)


@settings(max_examples=50, deadline=None)
@given(
    norm=st.sampled_from(sorted(EPS)),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    eps=st.sampled_from([0.0, 1e-9, 1e-3, 2 / 255, 8 / 255, 0.0313, 0.1, 0.7]),
    bounds=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-0.3, 0.7)]),
    seed=st.integers(0, 10_000),
)
def test_starts_steps_and_projections_in_half_precision_stay_inside(norm, dtype, eps, bounds, seed):
    threat, draw = Threat(norm=norm, eps=eps, bounds=bounds), torch.Generator().manual_seed(seed)
    low, high = bounds
    inputs = (low + (high - low) * torch.rand(6, 2, 5, 5, generator=draw)).to(dtype).clamp(low, high)
    inputs = torch.where(inputs.double() < low, 0.0, torch.where(inputs.double() > high, 0.0, inputs)).to(dtype)
    inputs[0] *= 1e-3
    away = (0.3 * torch.randn(6, 2, 5, 5, generator=draw)).to(dtype)
    keys = torch.arange(6)
    points = {
        "start": threat.random_start(inputs, "uniform", keys, seed=seed),
        "projected": threat.project(inputs + away, inputs, threat.radius),
        "projected from single": threat.project(inputs.float() + away, inputs, threat.radius),
        "step": threat.ascend(inputs, away, inputs, 2.5 * eps, threat.radius),
    }
    for point in points.values():
        assert_honest(point, inputs, threat)
    normal = threat.random_start(inputs, "normal", keys, seed=seed)
    assert bool(normal.isfinite().all())
    assert normal.dtype == dtype


def test_small_steps_add_up():
    """A step that is lost between two bfloat16 numbers is not lost to the climb."""
    inputs = torch.full((2, 1, 6, 6), 0.9, dtype=torch.bfloat16)
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.05), steps=40, step_size=0.001)
    moved = attack(lambda x: torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1), inputs, torch.tensor([0, 1]))
    assert float((moved - inputs)[0].float().max()) <= -0.03
    assert float((moved - inputs)[1].float().min()) >= 0.03


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_callback_of_training(dtype):
    """Crafting under bf16-true, where new tensors are bfloat16 by default."""
    attack = GradientAttack(threat=Threat(norm="l2", eps=0.2), steps=3, step_size=0.1, start="uniform")
    shorter = AttackCallback(attack=attack, growth=1.0).attack_at(0.0, 10)
    model, (inputs, labels) = network(dtype=dtype), given_batch(dtype)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        found = shorter(model, inputs, labels, seed=1)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, shorter(model, inputs, labels, seed=1))
    assert_honest(found, inputs, attack.threat)


class Nan:
    """An attack whose answers hold NaN, and that claims success."""

    def run(self, model, inputs, labels, *, keys, seed):
        value = torch.zeros(len(labels))
        return AttackResult(
            adversarial=inputs * torch.nan, goal_start=value, goal_end=value, fooled=torch.ones_like(labels).bool()
        )

    def describe(self):
        return {"attack": "Nan", "threat": Threat(norm="l2", eps=0.1).describe()}


class Breaks(nn.Module):
    """Answers NaN where its clean inputs have been moved by much."""

    def __init__(self, inputs):
        super().__init__()
        self.net, self.inputs = network(dtype=torch.float32), inputs

    def forward(self, x):
        away = (x.unsqueeze(1) - self.inputs).flatten(2).abs().amax(2).amin(1)
        return torch.where((away > 0.03).unsqueeze(1), torch.nan, self.net(x))


def test_no_verdict_follows_from_nan():
    inputs, labels = batch(dtype=torch.float32, model=network(dtype=torch.float32).eval())
    threat = Threat(norm="linf", eps=0.05)
    data = {"inputs": inputs, "labels": labels, "indices": torch.arange(len(labels)), "threat": threat}
    options = {"batch_size": 4, "seed": 0, "checks": False}
    with pytest.raises(AttackError, match="attack broken: 4 of 4 adversarial inputs hold NaN"):
        evaluate(network(dtype=torch.float32), **data, attacks={"broken": Nan()}, **options)
    model = Breaks(inputs)
    for name, attack in attacks_of("linf").items():
        result = attack.run(model, inputs, labels)
        answered = model.eval()(result.adversarial).isnan().any(1)
        assert not bool((result.fooled & answered).any()), name
    attack = GradientAttack(threat=threat, steps=1, step_size=0.05)
    with pytest.raises(AttackError, match="attack pgd: the model answers 4 of 4 adversarial inputs with NaN"):
        evaluate(model, **data, attacks={"pgd": attack}, **options)
    with pytest.raises(AttackError, match="logits are NaN on clean inputs"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(36, 5), NanLayer()), **data, attacks={}, **options)


class NanLayer(nn.Module):
    def forward(self, x):
        return x * torch.nan
