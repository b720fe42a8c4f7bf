"""The gradient loop: where x' lies, what it depends on, what it costs, and a slow reference."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, NoAttack, Threat
from kdrobust.attacks.goals import cross_entropy, margin
from kdrobust.attacks.threat import STARTS
from kdrobust.errors import AttackError, UsageError

EPS = {"linf": 0.1, "l2": 0.5}


def network(seed=0, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).to(dtype)


def batch(count=6, seed=1, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 1, 4, 4, generator=source, dtype=dtype)
    return inputs, torch.randint(0, 4, (count,), generator=source)


def make(norm="linf", **options):
    eps = options.pop("eps", EPS[norm])
    return GradientAttack(threat=Threat(norm=norm, eps=eps), **{"steps": 4, "step_size": 0.06, **options})


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(STARTS),
    eps=st.floats(0, 1),
    step_size=st.floats(0, 2),
    steps=st.integers(0, 3),
    keep=st.sampled_from(["last", "best"]),
    scale=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_inside_ball_and_box(norm, start, eps, step_size, steps, keep, scale, seed):
    inputs, labels = batch(3, seed)
    runner = make(norm, eps=eps, step_size=step_size, steps=steps, keep=keep, start=start)
    found = runner(network(), inputs, labels, scale=scale, seed=seed)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float(runner.threat.distance(found, inputs).max()) <= eps * scale + 1e-12
    assert not found.requires_grad


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_best_is_never_below_its_start(norm, targeted):
    inputs, labels = batch(32)
    # a step far too large: the last iterates get worse than the start for some
    runner = make(norm, keep="best", step_size=3.0, start="uniform", targeted=targeted)
    result = runner.run(network(), inputs, labels)
    assert bool((result.goal_end >= result.goal_start).all())
    sign = -1 if targeted else 1
    again = sign * cross_entropy(network()(result.adversarial), labels)
    torch.testing.assert_close(again, result.goal_end.to(again.dtype))


@pytest.mark.parametrize("norm", EPS)
def test_seeds_reproduce_and_differ(norm):
    inputs, labels = batch()
    runner, before = make(norm, start="uniform", steps=1), torch.get_rng_state()
    first = runner(network(), inputs, labels, seed=3)
    assert torch.equal(first, runner(network(), inputs, labels, seed=3))
    assert not torch.equal(first, runner(network(), inputs, labels, seed=4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_batch_size_and_order_do_not_matter(norm, momentum):
    inputs, labels = batch(8)
    keys = torch.tensor([5, 99, 3, 1000, 7, 8, 0, 12])
    runner = make(norm, start="uniform", momentum=momentum, restarts=2, keep="best")
    whole = runner(network(), inputs, labels, keys=keys)
    single = [runner(network(), inputs[i : i + 1], labels[i : i + 1], keys=keys[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(whole, torch.cat(single), atol=1e-10, rtol=0)
    order = torch.tensor([3, 1, 0, 7, 6, 5, 4, 2])
    shuffled = runner(network(), inputs[order], labels[order], keys=keys[order])
    torch.testing.assert_close(whole[order], shuffled, atol=1e-10, rtol=0)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_exactly_one_forward_a_step(steps):
    calls, model = [], network()

    def counted(x):
        calls.append(len(x))
        return model(x)

    make(steps=steps)(counted, *batch(), validate=False)
    assert len(calls) == steps


def test_restarts_keep_each_samples_best():
    inputs, labels = batch(40)
    one = make(start="uniform", steps=1, step_size=0.001).run(network(), inputs, labels)
    many = make(start="uniform", steps=1, step_size=0.001, restarts=5).run(network(), inputs, labels)
    assert bool((many.fooled >= one.fooled).all())
    same = many.fooled == one.fooled
    assert bool((many.goal_end[same] >= one.goal_end[same]).all())
    assert bool((many.goal_end > one.goal_end).any())
    assert torch.equal(many.fooled, network()(many.adversarial).argmax(1) != labels)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("steps", [0, 3])
def test_scale_zero_is_clean(norm, start, steps):
    inputs, labels = batch()
    found = make(norm, start=start, steps=steps)(network(), inputs, labels, scale=0.0)
    torch.testing.assert_close(found, inputs, atol=1e-15, rtol=0)


def test_scale_shrinks_radius_and_step():
    inputs, labels = batch()
    half = make(start="uniform")(network(), inputs, labels, scale=0.5)
    torch.testing.assert_close(half, make(eps=0.05, step_size=0.03, start="uniform")(network(), inputs, labels))


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_works_without_grad(context):
    inputs, labels = batch()
    model = network()
    expected = make()(model, inputs, labels)
    with context():
        found = make()(model, inputs.clone(), labels.clone())
        assert not torch.is_grad_enabled()
    assert torch.equal(found, expected)


def test_works_under_bf16_autocast():
    inputs, labels = batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make()(network(dtype=torch.float32), inputs, labels)
    assert found.dtype == torch.float32
    assert 0 < float((found - inputs).abs().max()) <= 0.1 + 1e-6


def slow_l2(model, x, y, eps, step, steps):
    rows = []
    for clean, label in zip(x, y, strict=True):
        point = clean.clone()
        for _ in range(steps):
            leaf = point.clone().requires_grad_(True)
            F.cross_entropy(model(leaf[None]), label[None]).backward()
            length = math.sqrt(sum(v * v for v in leaf.grad.flatten().tolist()))
            delta = point + step * leaf.grad / length - clean
            size = math.sqrt(sum(v * v for v in delta.flatten().tolist()))
            point = (clean + (delta * (eps / size) if size > eps else delta)).clamp(0, 1)
        rows.append(point)
    return torch.stack(rows)


def test_l2_equals_slow_reference():
    inputs, labels = batch()
    ours = make("l2", steps=6, step_size=0.2)(network(), inputs, labels)
    torch.testing.assert_close(ours, slow_l2(network(), inputs, labels, 0.5, 0.2, 6), atol=1e-10, rtol=0)


def test_attack_raises_the_goal():
    inputs, labels = batch(20)
    found = make(goal="margin")(network(), inputs, labels)
    assert bool((margin(network()(found), labels) > margin(network()(inputs), labels)).all())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", -1),
        ("restarts", 0),
        ("momentum", -0.1),
        ("step_size", -1),
        ("step_size", "abc"),
        ("start", "gauss"),
        ("keep", "first"),
        ("model_mode", "test"),
        ("goal", "cross_entropi"),
    ],
)
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}") as caught:
        make(**{key: value})
    assert "\n" not in str(caught.value)


def test_describe_is_json():
    text = json.loads(json.dumps(make("l2", eps="1/2").describe()))
    assert text["threat"] == {"norm": "l2", "eps": 0.5, "bounds": [0.0, 1.0]}
    assert (text["steps"], text["goal"]) == (4, "cross_entropy")
    assert json.dumps(NoAttack().describe())


def test_no_attack_is_a_copy():
    inputs, labels = batch()
    found = NoAttack()(network(), inputs, labels, keys=None)
    assert torch.equal(found, inputs)
    assert found.data_ptr() != inputs.data_ptr()


def test_teacher_goals():
    inputs, labels = batch()
    for goal in ("kl_to_teacher", "kl_to_live_teacher"):
        with pytest.raises(UsageError, match="teacher"):
            make(goal=goal)(network(), inputs, labels)
        assert not torch.equal(make(goal=goal)(network(), inputs, labels, teacher=network(9)), inputs)


def test_validation_runs_by_default_and_can_be_off():
    inputs, labels = batch()
    with pytest.raises(AttackError):
        make()(network(), inputs * 255, labels)
    make()(network(), inputs * 255, labels, validate=False)
