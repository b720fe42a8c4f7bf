"""What holds for every attack: where its answers lie, what they depend on, and that nothing else changes."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdrobust.attacks import AttackResult, Threat
from kdrobust.errors import AttackError
from tests.attacks.zoo import EPS, EVERY, NEAREST, attacks_of, batch, network

every = pytest.mark.parametrize(("norm", "name"), EVERY)


def same(one, two, rows=slice(None)):
    torch.testing.assert_close(one.adversarial[rows], two.adversarial, atol=1e-9, rtol=0)
    assert torch.equal(one.fooled[rows], two.fooled)
    for key, values in one.extra.items():
        torch.testing.assert_close(values[rows], two.extra[key], atol=1e-9, rtol=0, equal_nan=True)


def state(model):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()],
        copy.deepcopy(model.state_dict()),
    )


def assert_untouched(model, before):
    after = state(model)
    assert before[:2] == after[:2]
    for one, two in zip(before[2], after[2], strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)
    assert all(torch.equal(before[3][name], value) for name, value in after[3].items())


def mixed():
    """Training, but for one frozen layer; one parameter frozen, one with a gradient."""
    model = network().train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    return model


@every
def test_nothing_else_changes(norm, name):
    model, (inputs, labels) = mixed(), batch()
    before, kept, numbers = state(model), inputs.clone(), torch.get_rng_state()
    result = attacks_of(norm)[name].run(model, inputs, labels)
    assert_untouched(model, before)
    assert torch.equal(inputs, kept)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert not result.adversarial.requires_grad
    assert not result.goal_end.requires_grad
    same(result, attacks_of(norm)[name].run(network().eval(), inputs, labels))


class Failing(nn.Module):
    def __init__(self, after):
        super().__init__()
        self.net, self.calls, self.after = mixed(), 0, after

    def forward(self, x):
        self.calls += 1
        torch.rand(3)
        if self.calls > self.after:
            raise RuntimeError("boom")
        return self.net(x)


@every
@pytest.mark.parametrize("after", [0, 3])
def test_nothing_else_changes_after_an_exception(norm, name, after):
    model, (inputs, labels) = Failing(after), batch()
    before, numbers = state(model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"):
        attacks_of(norm)[name].run(model, inputs, labels)
    assert_untouched(model, before)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@every
@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_works_without_grad(norm, name, context):
    inputs, labels = batch()
    expected = attacks_of(norm)[name].run(network().eval(), inputs, labels)
    model = network().eval()
    with context():
        found = attacks_of(norm)[name].run(model, inputs.clone(), labels.clone(), keys=torch.arange(8))
    same(expected, found)
    assert not found.adversarial.is_inference()


@settings(max_examples=60, deadline=None)
@given(
    which=st.sampled_from(EVERY),
    eps=st.sampled_from([0.0, 0.01, 0.1, 0.7]),
    seed=st.integers(0, 50),
    low=st.sampled_from([0.0, -1.0]),
)
def test_inside_ball_and_box_and_never_below_the_start(which, eps, seed, low):
    norm, name = which
    inputs, labels = batch(5, seed)
    result = attacks_of(norm, eps)[name].run(network(seed).eval(), inputs, labels, seed=seed)
    found = result.adversarial
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    if name not in NEAREST:
        assert float(Threat(norm=norm, eps=eps).distance(found, inputs).max()) <= eps + 1e-12
    # of a sample still standing it is the highest point that comes back
    standing = ~result.fooled
    if name not in NEAREST:
        assert bool((result.goal_end >= result.goal_start)[standing].all())
    with torch.no_grad():
        wrong = network(seed).eval()(found).argmax(1) != labels
    assert torch.equal(wrong, result.fooled)


@every
def test_calling_is_running(norm, name):
    inputs, labels = batch(4)
    attack, model = attacks_of(norm)[name], network().eval()
    result = attack.run(model, inputs, labels, seed=2)
    assert torch.equal(attack(model, inputs, labels, keys=torch.arange(4), seed=2), result.adversarial)


@every
def test_seeds_reproduce_and_differ(norm, name):
    inputs, labels = batch()
    attack = attacks_of(norm)[name]
    first = attack.run(network().eval(), inputs, labels, seed=3)
    same(first, attack.run(network().eval(), inputs, labels, seed=3))
    if name not in ("ddn", "cw"):
        assert not torch.equal(first.adversarial, attack.run(network().eval(), inputs, labels, seed=4).adversarial)


@every
def test_batch_size_and_order_do_not_matter(norm, name):
    inputs, labels = batch()
    keys = torch.tensor([5, 99, 3, 1000, 7, 8, 0, 12])
    attack, model = attacks_of(norm)[name], network().eval()
    whole = attack.run(model, inputs, labels, keys=keys)
    for rows in (torch.tensor([6, 2, 7, 0, 3]), torch.tensor([4]), torch.tensor([3])):
        same(whole, attack.run(model, inputs[rows], labels[rows], keys=keys[rows]), rows)
    assert 0 < int(whole.fooled.sum()) < 8 or name in NEAREST


@every
def test_samples_wrong_without_attack_count_as_fooled(norm, name):
    inputs, labels = batch()
    result = attacks_of(norm)[name].run(network().eval(), inputs, labels)
    assert bool(result.fooled[3::4].all())
    if name != "gradient":
        assert torch.equal(result.adversarial[3::4], inputs[3::4])


MISTAKES = [
    (lambda x, y: (x * 255, y), "divide by 255"),
    (lambda x, y: (x * 4 - 2, y), "normalise inside the model"),
    (lambda x, y: (x * float("nan"), y), "NaN"),
    (lambda x, y: ((x * 255).byte(), y), "floating"),
    (lambda x, y: (x, y + 5), r"classes 0\.\.4"),
    (lambda x, y: (x, y - 5), r"classes 0\.\.4"),
    (lambda x, y: (x, y.double()), "class numbers"),
    (lambda x, y: (x, y[:3]), "shape"),
]


@every
def test_error_contract(norm, name):
    attack, model, good = attacks_of(norm)[name], network().eval(), batch()
    for change, words in MISTAKES:
        with pytest.raises(AttackError, match=words) as caught:
            attack.run(model, *change(*good))
        assert "\n" not in str(caught.value)


@every
def test_outputs_that_are_no_logits_are_named(norm, name):
    attack, (inputs, labels), model = attacks_of(norm)[name], batch(), network().eval()
    with pytest.raises(AttackError, match="softmax"):
        attack.run(lambda x: model(x).softmax(1), inputs, labels)
    with pytest.raises(AttackError, match=r"\[B, K\]"):
        attack.run(lambda x: model(x)[:, 0], inputs, labels)
    with pytest.raises(AttackError, match="keys have shape"):
        attack.run(model, inputs, labels, keys=torch.arange(3))
    if name != "square":
        with pytest.raises(AttackError, match="no gradient"):
            attack.run(lambda x: model(x.detach()), inputs, labels)


@every
def test_int32_labels_float32_and_empty_batches(norm, name):
    attack, model = attacks_of(norm)[name], network(dtype=torch.float32).eval()
    inputs, labels = batch(dtype=torch.float32)
    result = attack.run(model, inputs, labels.int())
    assert isinstance(result, AttackResult)
    assert result.adversarial.dtype == torch.float32
    if name not in NEAREST:
        assert float(Threat(norm=norm, eps=1).distance(result.adversarial, inputs).max()) <= EPS[norm] + 1e-6
    same(result, attack.run(model, inputs, labels))
    empty = attack.run(model, inputs[:0], labels[:0])
    assert empty.adversarial.shape == (0, 1, 6, 6)
    assert empty.fooled.shape == empty.goal_end.shape == (0,)


@every
def test_described_as_plain_values(norm, name):
    described = json.loads(json.dumps(attacks_of(norm)[name].describe()))
    assert described["threat"] == {"norm": norm, "eps": EPS[norm], "bounds": [0.0, 1.0]}
    assert bool(described.get("minimum_norm")) == (name in NEAREST)


@every
def test_another_box(norm, name):
    """Pixels in [-1, 1] and twice the radius: the same attack, twice as wide."""
    inputs, labels = batch()
    model = network().eval()
    one = attacks_of(norm)[name].run(model, inputs, labels)
    wide = attacks_of(norm, 2 * EPS[norm], bounds=(-1, 1))[name]
    two = wide.run(lambda x: model((x + 1) / 2), inputs * 2 - 1, labels)
    assert float(two.adversarial.min()) < -0.5
    assert torch.equal(one.fooled, two.fooled)
    if name != "apgd_dlr":  # its goal has plateaus, where rounding decides
        torch.testing.assert_close((two.adversarial + 1) / 2, one.adversarial, atol=1e-5, rtol=0)
