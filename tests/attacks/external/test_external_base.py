"""The door: what is checked before, kept out meanwhile, and judged afterwards, whatever the library does."""

import random
import sys

import numpy as np
import pytest
import torch

from kdrobust.attacks import Threat
from kdrobust.attacks.external import ExternalAttack, Found
from kdrobust.errors import AttackError

from .conftest import Fragile, footprint

THREAT = Threat(norm="linf", eps=0.1)


class Fake(ExternalAttack):
    """A library that does as it is told."""

    def __init__(self, what, *, threat=THREAT, batch_size=4):
        super().__init__(threat=threat, batch_size=batch_size)
        self.what = what

    def search(self, model, inputs, labels, *, classes, seed, partial=None):
        found = self.what(model, inputs, labels, classes)
        return found if isinstance(found, Found) else Found(adversarial=found)

    def describe(self):
        return {"attack": "Fake", "threat": self.threat.describe()}


def vandalise(model, inputs, labels, classes):
    model.train()
    x = inputs.clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    model.zero_grad()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    torch.rand(3), np.random.rand(), random.random()
    sys.settrace(None)
    inputs.add_(x.grad.sign(), alpha=0.1).clamp_(0, 1)
    labels.zero_()
    return inputs


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("breaks_at", [None, 1, 3])
def test_nothing_but_the_answer_remains(mode, breaks_at, tiny, tracer):
    model = Fragile(breaks_at=breaks_at)
    with mode():
        inputs, labels = tiny.inputs.clone(), tiny.labels.clone()
        before = footprint(model)
        attack = Fake(vandalise, batch_size=8)
        if breaks_at is None:
            result = attack.run(model, inputs, labels)
            assert not result.adversarial.is_inference()
            assert not result.adversarial.requires_grad
            assert float((result.adversarial - inputs).abs().max()) > 0.09
        else:
            with pytest.raises(RuntimeError, match="boom"):
                attack.run(model, inputs, labels)
        assert footprint(model) == before
    assert torch.equal(inputs, tiny.inputs)
    assert torch.equal(labels, tiny.labels)


def test_the_library_gets_no_hold_of_the_model(tiny):
    model = Fragile()

    def look(facade, inputs, labels, classes):
        assert classes == 5
        assert [parameter.numel() for parameter in facade.parameters()] == [1]
        assert len(list(facade.modules())) == 1
        assert facade(inputs.reshape(8, 64)).shape == (8, 5)
        facade.train()
        assert not any(module.training for module in model.modules())
        return inputs

    assert Fake(look).run(model, tiny.inputs, tiny.labels).adversarial.shape == tiny.inputs.shape


def test_success_is_asked_of_the_model_and_not_of_the_library(tiny):
    far = Fake(lambda model, inputs, labels, classes: 1.0 - inputs).run(tiny.model, tiny.inputs, tiny.labels)
    truth = tiny.model(far.adversarial).argmax(1) != tiny.labels
    assert torch.equal(far.fooled, truth)
    idle = Fake(lambda model, inputs, labels, classes: inputs).run(tiny.model, tiny.inputs, tiny.labels)
    wrong = tiny.model(tiny.inputs).argmax(1) != tiny.labels
    assert torch.equal(idle.fooled, wrong)
    assert int(wrong.sum()) == 2
    assert torch.equal(idle.goal_end > 0, wrong)
    assert torch.equal(idle.goal_start, idle.goal_end)
    assert idle.notes == ()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_answers_outside_are_projected_and_counted(norm, tiny):
    threat = Threat(norm=norm, eps=0.1)

    def leave(model, inputs, labels, classes):
        found = inputs.clone()
        found[0, 0, 0, 0] += 0.3 if float(inputs[0, 0, 0, 0]) < 0.7 else -0.3
        found[1] += 5.0
        found[2] = float("nan")
        return found

    result = Fake(leave, threat=threat).run(tiny.model, tiny.inputs, tiny.labels)
    distance = threat.distance(result.adversarial, tiny.inputs)
    assert float(distance.max()) <= 0.1 + 1e-6
    assert float(distance[0]) == pytest.approx(0.1, abs=1e-6)
    assert float(result.adversarial.min()) >= 0.0
    assert float(result.adversarial.max()) <= 1.0
    assert torch.equal(result.adversarial[2:], tiny.inputs[2:])
    lost, ball, box = result.notes
    assert lost.startswith("1 of 8 answers held NaN")
    assert ball.startswith("2 of 8 answers left the ball")
    assert box.startswith("1 of 8 answers left [0, 1], by up to 5")


def test_an_answer_of_another_shape_is_refused(tiny):
    with pytest.raises(AttackError, match=r"shape \(3, 1, 8, 8\)"):
        Fake(lambda model, inputs, labels, classes: inputs[:3]).run(tiny.model, tiny.inputs, tiny.labels)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x, y: (x * 4 - 2, y), "normalise inside the model"),
        (lambda x, y: (x * 255, y), "divide by 255"),
        (lambda x, y: (x / 0, y), "NaN"),
        (lambda x, y: (x, y + 3), "labels lie in"),
        (lambda x, y: (x, y.float()), "class numbers"),
        (lambda x, y: (x, y[:3]), "labels have shape"),
        (lambda x, y: ((x * 255).byte(), y), "floating"),
    ],
)
def test_the_contract_is_checked_first(change, word, tiny):
    def never(model, inputs, labels, classes):
        raise AssertionError("the library was run")

    with pytest.raises(AttackError, match=word):
        Fake(never).run(tiny.model, *change(tiny.inputs, tiny.labels))


def test_probabilities_are_refused(tiny):
    with pytest.raises(AttackError, match="softmax"):
        Fake(vandalise).run(lambda x: tiny.model(x).softmax(1), tiny.inputs, tiny.labels)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_library_sees_float32_whatever_the_model_takes(dtype, tiny):
    model, inputs = Fragile().to(dtype), tiny.inputs.to(dtype)

    def look(facade, x, labels, classes):
        assert x.dtype == torch.float32
        assert facade(x).dtype == torch.float32
        return x + 0.05

    result = Fake(look).run(model, inputs, tiny.labels.int())
    assert result.adversarial.dtype == dtype
    assert float((result.adversarial - inputs).abs().max()) <= 0.1


def test_no_samples_and_no_radius_need_no_library(tiny):
    def never(model, inputs, labels, classes):
        raise AssertionError("the library was run")

    assert len(Fake(never).run(tiny.model, tiny.inputs[:0], tiny.labels[:0]).fooled) == 0
    still = Fake(never, threat=Threat(norm="linf", eps=0)).run(tiny.model, tiny.inputs, tiny.labels)
    assert torch.equal(still.adversarial, tiny.inputs)


def test_the_same_seed_gives_the_same_draws_whatever_was_drawn_before(tiny):
    def noisy(model, inputs, labels, classes):
        noise = torch.rand_like(inputs) + np.random.rand() + random.random()
        return inputs + 0.01 * noise

    def drawn(seed):
        return Fake(noisy)(tiny.model, tiny.inputs, tiny.labels, seed=seed)

    first = drawn(2**62 + 1)
    torch.rand(1), np.random.rand(), random.random()
    assert torch.equal(first, drawn(2**62 + 1))
    assert not torch.equal(first, drawn(1))


@pytest.mark.parametrize("size", [0, 1.5, True])
def test_a_batch_size_that_is_none(size):
    with pytest.raises(ValueError, match="batch_size: expected"):
        Fake(vandalise, batch_size=size)


def test_other_pixels_than_0_to_1_are_refused():
    with pytest.raises(ValueError, match="threat: bounds are"):
        Fake(vandalise, threat=Threat(norm="linf", eps=1, bounds=(0, 255)))
