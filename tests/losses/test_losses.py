"""Every loss against an independent loop, and the properties that hold for all of them."""

import inspect
import math

import pytest
import torch

from kdrobust.losses import (
    boosted_cross_entropy,
    cross_entropy,
    hard_target,
    logit_mse,
    mse,
    probability_mse,
    soft_target,
)

GENERATOR = torch.Generator().manual_seed(3)
STUDENT = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) * 3
TEACHER = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) * 3
LABELS = torch.tensor([0, 1, 2, 3, 4, int(TEACHER[5].argmax())])


def softmax(row, temperature=1.0):
    powers = [math.exp((x - max(row)) / temperature) for x in row]
    return [p / sum(powers) for p in powers]


def by_hand(formula):
    return torch.tensor(
        [formula(s, t, y) for s, t, y in zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True)]
    ).double()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("reduction", ["classes_sum", "classes_mean"])
def test_soft_target(temperature, reduction):
    def formula(s, t, y):
        p, q = softmax(t, temperature), softmax(s, temperature)
        total = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        return total / (5 if reduction == "classes_mean" else 1)

    ours = soft_target(STUDENT, TEACHER, temperature=temperature, reduction=reduction)
    torch.testing.assert_close(ours, by_hand(formula))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probability_mse(temperature):
    def formula(s, t, y):
        p, q = softmax(t, temperature), softmax(s, temperature)
        return temperature**2 * sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 5

    torch.testing.assert_close(probability_mse(STUDENT, TEACHER, temperature=temperature), by_hand(formula))


def test_logit_mse_and_mse():
    torch.testing.assert_close(
        logit_mse(STUDENT, TEACHER), by_hand(lambda s, t, y: sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 5)
    )
    torch.testing.assert_close(
        mse(STUDENT, LABELS), by_hand(lambda s, t, y: sum((q - (k == y)) ** 2 for k, q in enumerate(softmax(s))) / 5)
    )


def test_cross_entropy_with_smoothing():
    def formula(s, t, y):
        return -sum(((1 - 0.2) * (k == y) + 0.2 / 5) * math.log(q) for k, q in enumerate(softmax(s)))

    torch.testing.assert_close(cross_entropy(STUDENT, LABELS, label_smoothing=0.2), by_hand(formula))


def test_boosted_cross_entropy():
    def formula(s, t, y):
        q = softmax(s)
        return -math.log(q[y]) - math.log(1.0001 - max(q[k] for k in range(5) if k != y))

    torch.testing.assert_close(boosted_cross_entropy(STUDENT, LABELS), by_hand(formula))


@pytest.mark.parametrize("wrong", ["label", "teacher", "drop"])
def test_hard_target_policies(wrong):
    def formula(s, t, y):
        answer = t.index(max(t))
        if answer != y and wrong == "drop":
            return 0.0
        return -math.log(softmax(s)[y if wrong == "label" else answer])

    torch.testing.assert_close(hard_target(STUDENT, TEACHER, LABELS, wrong=wrong), by_hand(formula))


def call(function, student, teacher, labels, **options):
    arguments = {"student": student, "teacher": teacher, "labels": labels}
    wanted = inspect.signature(function).parameters
    return function(**{name: value for name, value in arguments.items() if name in wanted}, **options)


def test_soft_target_tends_to_half_the_logit_distance():
    student, teacher = STUDENT - STUDENT.mean(1, keepdim=True), TEACHER - TEACHER.mean(1, keepdim=True)
    hot = soft_target(student, teacher, temperature=1e4)
    torch.testing.assert_close(hot, 0.5 * logit_mse(student, teacher), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "options", "word"),
    [
        (soft_target, {"temperature": 0.0}, "temperature"),
        (soft_target, {"temperature": -1.0}, "temperature"),
        (soft_target, {"reduction": "mean"}, "reduction"),
        (probability_mse, {"temperature": 0.0}, "temperature"),
        (hard_target, {"wrong": "guess"}, "wrong"),
        (cross_entropy, {"label_smoothing": 1.5}, "label_smoothing"),
    ],
)
def test_values_no_formula_accepts(function, options, word):
    with pytest.raises(ValueError, match=word):
        call(function, STUDENT, TEACHER, LABELS, **options)
