"""DTKD's distances and weights."""

import math

import pytest
import torch

from kdrobust.losses import Objective, distance_compensated, doubt, fixed, js_distance
from kdrobust.losses.weighting import global_mean

GENERATOR = torch.Generator().manual_seed(5)
STUDENT = torch.randn(8, 4, generator=GENERATOR, dtype=torch.float64) * 2
TEACHER = torch.randn(8, 4, generator=GENERATOR, dtype=torch.float64) * 2
LABELS = torch.randint(4, (8,), generator=GENERATOR)


def slow_js(p, q):
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]

    def kl(first):
        return sum(a * math.log2(a / c) for a, c in zip(first, m, strict=True) if a > 0)

    return math.sqrt(max(0.0, 0.5 * kl(p) + 0.5 * kl(q)))


def test_js_distance_is_a_metric_in_the_unit_interval():
    p, q, r = (torch.rand(50, 6, generator=GENERATOR).double() for _ in range(3))
    p, q, r = (x / x.sum(1, keepdim=True) for x in (p, q, r))
    expected = torch.tensor([slow_js(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]).double()
    torch.testing.assert_close(js_distance(p, q), expected)
    torch.testing.assert_close(js_distance(p, q), js_distance(q, p))
    assert bool((js_distance(p, q) <= js_distance(p, r) + js_distance(r, q) + 1e-12).all())
    assert float(js_distance(p, p).max()) < 1e-7
    ends = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(js_distance(ends, ends.flip(0)), torch.ones(2, dtype=torch.float64))


def test_weights_against_the_definition():
    alpha, gamma, beta, delta = 0.3, 1.5, 2.0, 1e-3
    labels_weight, knowledge_weight = distance_compensated(
        STUDENT, TEACHER, LABELS, alpha=alpha, gamma=gamma, beta=beta, delta=delta
    )
    p, q = STUDENT.softmax(1).tolist(), TEACHER.softmax(1).tolist()
    far = [(slow_js(a, b) + delta) ** gamma for a, b in zip(p, q, strict=True)]
    w = [value / (sum(far) / 8) for value in far]
    truth = [[float(k == y) for k in range(4)] for y in LABELS.tolist()]
    r = [(1 - slow_js(a, b)) ** beta for a, b in zip(q, truth, strict=True)]
    torch.testing.assert_close(labels_weight, torch.tensor([1 - (1 - alpha) * x for x in r]).double())
    torch.testing.assert_close(
        knowledge_weight, torch.tensor([(1 - alpha) * x * y for x, y in zip(r, w, strict=True)]).double()
    )


def test_total_weight_is_conserved():
    _, with_gamma = distance_compensated(STUDENT, TEACHER, LABELS, alpha=0.0, gamma=2.0, beta=0.0)
    assert float(with_gamma.mean()) == pytest.approx(1.0)
    _, capped = distance_compensated(STUDENT, TEACHER, LABELS, alpha=0.0, gamma=2.0, beta=0.0, cap=1.2)
    assert float(capped.max()) <= 1.2


def method(weighting):
    return {
        "temperature": 4.0,
        "weighting": weighting,
        "terms": {
            "prediction": {"loss": "cross_entropy", "student": "adversarial", "role": "prediction"},
            "knowledge": {
                "loss": "soft_target",
                "student": "adversarial",
                "teacher": "clean",
                "role": "knowledge",
            },
        },
    }


class Outputs:
    def __init__(self, student):
        self.student = student
        self.labels = LABELS

    def logits(self, model, view):
        return self.student if model == "student" else TEACHER


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.37, 1.0])
def test_gamma_and_beta_zero_is_plain_distillation_exactly(alpha):
    views = {"student": "adversarial", "teacher": "clean"}
    results = []
    for weighting in (
        {"function": "distance_compensated", **views, "alpha": alpha, "gamma": 0.0, "beta": 0.0},
        {"function": "fixed", "student": "adversarial", "alpha": alpha},
    ):
        student = STUDENT.clone().requires_grad_(True)
        loss = Objective.from_method(method(weighting))(Outputs(student)).loss
        loss.backward()
        results.append((float(loss), student.grad))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_weights_carry_no_gradient_but_mart_s_doubt_does():
    student = STUDENT.clone().requires_grad_(True)
    first, second = distance_compensated(student, TEACHER, LABELS, alpha=0.1)
    assert not first.requires_grad
    assert not second.requires_grad
    assert doubt(student, LABELS).requires_grad
    torch.testing.assert_close(doubt(STUDENT, LABELS), 1 - STUDENT.softmax(1)[torch.arange(8), LABELS])


def test_fixed_and_the_mean_of_one_process():
    first, second = fixed(STUDENT, alpha=0.25)
    assert first.tolist() == [0.25] * 8
    assert second.tolist() == [0.75] * 8
    assert float(global_mean(torch.tensor([1.0, 2.0, 6.0]))) == 3.0


@pytest.mark.parametrize("wrong", [{"gamma": -1.0}, {"beta": -0.5}, {"delta": -1e-3}])
def test_negative_strengths_are_refused(wrong):
    with pytest.raises(ValueError, match="negative"):
        distance_compensated(STUDENT, TEACHER, LABELS, alpha=0.1, **wrong)
