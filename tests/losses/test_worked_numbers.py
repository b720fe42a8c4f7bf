"""The worked numbers of the mission: two classes, label 0, student (ln 9, 0), teacher (2, 0)."""

import math

import pytest
import torch

from kdrobust.losses import cross_entropy, js_distance, soft_target
from kdrobust.losses.numerics import kl_per_class

STUDENT = torch.tensor([[math.log(9.0), 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
LABEL = torch.tensor([0])


def value(tensor):
    return float(tensor[0])


def test_prediction_loss():
    assert value(cross_entropy(STUDENT, LABEL)) == pytest.approx(0.1053605, abs=1e-7)


def test_soft_cross_entropy_is_the_divergence_plus_the_teachers_entropy():
    target = TEACHER.softmax(1)
    entropy = float(-(target * target.log()).sum())
    assert value(soft_target(STUDENT, TEACHER)) + entropy == pytest.approx(0.3672761, abs=1e-7)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.0019423), (4.0, 0.0045518)])
def test_soft_target(temperature, expected):
    assert value(soft_target(STUDENT, TEACHER, temperature=temperature)) == pytest.approx(expected, abs=5e-8)


def test_distances():
    assert value(js_distance(STUDENT.softmax(1), TEACHER.softmax(1))) == pytest.approx(0.0261191, abs=1e-7)
    onehot = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert value(js_distance(TEACHER.softmax(1), onehot)) == pytest.approx(0.2496561, abs=1e-7)


def test_the_articles_example_with_the_right_numbers():
    # section 4.3 prints 0.15 for each; with probabilities taken as logits its own formula gives these
    prediction = -math.log(0.9)
    knowledge = float(torch.nn.functional.cross_entropy(torch.tensor([[0.9, 0.1]]).double(), LABEL))
    assert prediction == pytest.approx(0.1054, abs=5e-5)
    assert knowledge == pytest.approx(0.3711, abs=5e-5)
    assert 0.5 * prediction + 0.5 * knowledge == pytest.approx(0.2382, abs=5e-5)


def test_zero_probabilities_count_as_zero():
    target = torch.tensor([[2000.0, 0.0, -2000.0]], requires_grad=True)
    logits = torch.tensor([[0.0, 2000.0, 0.0]], requires_grad=True)
    summands = kl_per_class(target, logits)
    summands.sum().backward()
    assert bool(summands.isfinite().all())
    assert bool(target.grad.isfinite().all())
    assert bool(logits.grad.isfinite().all())
