"""Losses that choose their temperature, against loops."""

import math

import pytest
import torch

from kdrobust.losses.knowledge import soft_target
from kdrobust.losses.tempered import (
    CurriculumTemperature,
    dynamic_temperature,
    logit_standardization,
    ttm,
    wsld,
    wttm,
)

GENERATOR = torch.Generator().manual_seed(15)
STUDENT, TEACHER = (3 * torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
LABELS = torch.tensor([0, 1, 2, 3, 0])


def softmax(row, temperature=1.0):
    powers = [math.exp(x / temperature) for x in row]
    return [x / sum(powers) for x in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def rows(formula):
    found = [formula(s, t, y) for s, t, y in zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def test_logit_standardization_sees_neither_scale_nor_shift():
    moved = logit_standardization(7.0 * STUDENT - 3.0, TEACHER)
    torch.testing.assert_close(moved, logit_standardization(STUDENT, TEACHER), rtol=1e-5, atol=1e-6)

    def formula(s, t, y):
        def z(row):
            mean = sum(row) / 4
            deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / 3)
            return [(x - mean) / (deviation + 1e-7) for x in row]

        return 9.0 * kl(softmax(z(t), 3.0), softmax(z(s), 3.0))

    torch.testing.assert_close(logit_standardization(STUDENT, TEACHER, temperature=3.0), rows(formula))


def test_dynamic_temperature():
    def formula(s, t, y):
        if max(s) <= 0 or max(t) <= 0:
            s, t = [x - sum(s) / 4 for x in s], [x - sum(t) / 4 for x in t]
        u, v = max(s), max(t)
        mine, theirs = 2 * u / (u + v) * 2.0, 2 * v / (u + v) * 2.0
        return 3.0 * mine * theirs * kl(softmax(t, theirs), softmax(s, mine)) + 0.5 * 4.0 * kl(
            softmax(t, 2.0), softmax(s, 2.0)
        )

    ours = dynamic_temperature(STUDENT, TEACHER, temperature=2.0, alpha=3.0, beta=0.5)
    torch.testing.assert_close(ours, rows(formula))
    plain = dynamic_temperature(STUDENT, TEACHER, temperature=2.0, alpha=0.0, beta=1.0)
    torch.testing.assert_close(plain, soft_target(STUDENT, TEACHER, temperature=2.0))


def test_the_guard_centres_only_samples_that_need_it():
    student = STUDENT.clone()
    student[0] -= 50.0
    guarded, bare = (dynamic_temperature(student, TEACHER, guard=guard) for guard in ("center", "none"))
    positive = (student.amax(1) > 0) & (TEACHER.amax(1) > 0)
    assert not bool(positive[0])
    torch.testing.assert_close(guarded[positive], bare[positive])
    assert float(guarded[0]) != pytest.approx(float(bare[0]))
    centred = [values - values.mean(1, keepdim=True) for values in (STUDENT, TEACHER)]
    expected = (
        3.0 * dynamic_temperature(*centred, alpha=1.0, beta=0.0)[0] + soft_target(STUDENT, TEACHER, temperature=4.0)[0]
    )
    torch.testing.assert_close(guarded[0], expected)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
def test_transformed_teacher_matching(gamma):
    def powers(t):
        return [x**gamma for x in softmax(t)]

    def plain(s, t, y):
        return kl([x / sum(powers(t)) for x in powers(t)], softmax(s))

    torch.testing.assert_close(ttm(STUDENT, TEACHER, gamma=gamma), rows(plain))
    torch.testing.assert_close(
        wttm(STUDENT, TEACHER, gamma=gamma), rows(lambda s, t, y: sum(powers(t)) * plain(s, t, y))
    )


def test_the_exponent_is_an_inverse_temperature_of_the_teacher():
    torch.testing.assert_close(ttm(STUDENT, TEACHER, gamma=0.25), soft_target(STUDENT, TEACHER / 4.0))


def test_weighted_soft_labels_and_their_constant_weight():
    def formula(s, t, y):
        weight = 1 - math.exp(-math.log(softmax(s)[y]) / math.log(softmax(t)[y]))
        p, q = softmax(t, 2.0), softmax(s, 2.0)
        return -4.0 * weight * sum(a * math.log(b) for a, b in zip(p, q, strict=True))

    torch.testing.assert_close(wsld(STUDENT, TEACHER, LABELS), rows(formula), rtol=1e-5, atol=1e-6)
    student = STUDENT.clone().requires_grad_(True)
    wsld(student, TEACHER, LABELS).sum().backward()
    weight = 1 - (-(STUDENT.log_softmax(1)[range(5), LABELS] / TEACHER.log_softmax(1)[range(5), LABELS])).exp()
    direct = 2.0 * weight.unsqueeze(1) * ((STUDENT / 2).softmax(1) - (TEACHER / 2).softmax(1))
    torch.testing.assert_close(student.grad, direct, rtol=1e-4, atol=1e-6)


def test_a_learnt_temperature_climbs_what_the_student_descends():
    module = CurriculumTemperature(t_start=1.0, t_end=4.0, raw_temperature=0.0).double()
    assert module.temperature().item() == 3.0
    torch.testing.assert_close(module(STUDENT, TEACHER).detach(), soft_target(STUDENT, TEACHER, temperature=3.0))
    slopes = []
    for factor in (1.0, -1.0, -0.5, 0.0):
        module.zero_grad()
        module(STUDENT, TEACHER, lambda_=factor).mean().backward()
        slopes.append(float(module.raw_temperature.grad))
    step = 1e-5
    values = []
    for raw in (-step, step):
        temperature = 1.0 + 4.0 / (1.0 + math.exp(-raw))
        values.append(float(soft_target(STUDENT, TEACHER, temperature=temperature).mean()))
    assert slopes[0] == pytest.approx((values[1] - values[0]) / (2 * step), rel=1e-5)
    assert slopes[1:] == pytest.approx([-slopes[0], -0.5 * slopes[0], 0.0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dynamic_temperature(STUDENT, TEACHER, guard="clip"), "guard must be center or none, got 'clip'"),
        (lambda: dynamic_temperature(STUDENT, TEACHER, temperature=0.0), "temperature must be positive"),
        (lambda: ttm(STUDENT, TEACHER, gamma=0.0), "gamma must be positive"),
        (lambda: wttm(STUDENT, TEACHER, gamma=-1.0), "gamma must be positive"),
        (lambda: wsld(STUDENT, TEACHER, LABELS, temperature=-1.0), "temperature"),
        (lambda: CurriculumTemperature(t_start=0.0), "t_start"),
        (lambda: CurriculumTemperature(t_start=1.0, t_end=-2.0), "got 1.0 and -1.0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
