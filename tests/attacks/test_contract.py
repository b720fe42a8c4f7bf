"""What may be attacked, and that nothing but the answer changes."""

import copy

import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.contract import attack_mode, check_inputs, check_logits
from kdrobust.errors import AttackError

LABELS = torch.tensor([0, 1, 2])
INPUTS = torch.full((3, 1, 4, 4), 0.5)


def network():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 3),
    )
    model.train()
    model[3].eval()
    model[0].bias.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    return model


def state(model):
    modes = [module.training for module in model.modules()]
    asking = [parameter.requires_grad for parameter in model.parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return modes, asking, grads, copy.deepcopy(model.state_dict())


def assert_same(before, after):
    assert before[:2] == after[:2]
    for one, two in zip(before[2], after[2], strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)
    assert all(torch.equal(before[3][name], value) for name, value in after[3].items())


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("validate", [True, False])
def test_attack_leaves_no_trace(mode, validate):
    model, inputs = network(), torch.rand(3, 1, 4, 4)
    before, kept = state(model), inputs.clone()
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=2, model_mode=mode)
    attack(model, inputs, LABELS, validate=validate)
    assert_same(before, state(model))
    assert torch.equal(inputs, kept)
    assert inputs.grad is None


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_restored_after_an_exception(mode):
    model = network()
    before = state(model)

    def fail():
        with attack_mode(model, mode):
            assert all(module.training == (mode == "train") for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            model(torch.rand(3, 1, 4, 4))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert_same(before, state(model))


def test_functions_are_left_alone():
    with attack_mode(lambda x: x, "eval"):
        pass


@pytest.mark.parametrize("goal", ["kl_to_teacher", "kl_to_live_teacher"])
def test_teacher_gets_no_gradient(goal):
    teacher = network().eval()
    before = state(teacher)
    attack = GradientAttack(threat=Threat(norm="l2", eps=0.1), steps=2, goal=goal)
    attack(network(), INPUTS, LABELS, teacher=teacher)
    assert_same(before, state(teacher))


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (INPUTS * 255, LABELS, "divide by 255"),
        (INPUTS - 2, LABELS, "normalise inside the model"),
        (INPUTS * float("nan"), LABELS, "NaN"),
        (INPUTS * float("inf"), LABELS, "infinite"),
        (INPUTS.byte(), LABELS, "floating"),
        (INPUTS, LABELS[:2], "shape"),
        (INPUTS, LABELS.float(), "class numbers"),
        (INPUTS, torch.eye(3).long(), "shape"),
    ],
)
def test_bad_inputs(inputs, labels, words):
    with pytest.raises(AttackError, match=words) as caught:
        check_inputs(inputs, labels, (0.0, 1.0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (torch.randn(3, 3), LABELS + 1, r"classes 0\.\.2"),
        (torch.randn(3, 3), LABELS - 1, r"classes 0\.\.2"),
        (torch.randn(3, 3).softmax(1), LABELS, "softmax"),
        (torch.full((3, 3), float("nan")), LABELS, "NaN"),
        (torch.randn(3, 3, 1), LABELS, r"\[B, K\]"),
        (torch.randn(2, 3), LABELS, r"\[B, K\]"),
        (torch.randn(3, 1), LABELS * 0, "one class"),
    ],
)
def test_bad_outputs(logits, labels, words):
    with pytest.raises(AttackError, match=words):
        check_logits(logits, labels)


def test_good_values_and_empty_batches_pass():
    check_inputs(INPUTS, LABELS, (0.0, 1.0))
    check_inputs(INPUTS[:0], LABELS[:0], (0.0, 1.0))
    check_logits(torch.randn(3, 3), LABELS)
    check_logits(torch.randn(0, 3), LABELS[:0])
