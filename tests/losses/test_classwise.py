"""What is kept a class, against loops over samples."""

import math

import pytest
import torch

from kdrobust.losses.classwise import ClassTemperedTarget, FairClassWeights, class_temperatures, class_weights

LABELS = torch.tensor([0, 0, 1, 2, 2, 2])
SURVIVED = torch.tensor([1.0, 3.0, 4.0, 8.0, 6.0, 7.0])


def test_class_weights_in_numbers():
    # (1/κ)² is 1, 1/4, 1/16: of sum 21/16, scaled to 3
    found = class_weights(torch.tensor([1.0, 2.0, 4.0]), clamp=(0.0, 10.0))
    assert found.tolist() == pytest.approx([16 / 7, 4 / 7, 1 / 7])
    assert class_weights(torch.tensor([1.0, 2.0, 4.0])).tolist() == pytest.approx([16 / 7, 5 / 6, 5 / 6])
    assert class_weights(torch.tensor([1.0, 2.0, 4.0]), beta=0.0).tolist() == [1.0, 1.0, 1.0]


def test_a_class_that_withstands_nothing_takes_the_largest_weight():
    found = class_weights(torch.tensor([0.0, 2.0, 3.0]))
    assert found.tolist() == pytest.approx([2.5, 5 / 6, 5 / 6])


def test_class_temperatures_in_numbers():
    # mean 2, gaps (-1, 0, 1), largest 1
    before = torch.tensor([1.0, 2.0, 3.0])
    found = class_temperatures(torch.tensor([1.0, 2.0, 3.0]), before, rate=0.5)
    assert found.tolist() == pytest.approx([1.5, 2.0, 2.5])
    assert class_temperatures(torch.full((3,), 7.0), before).tolist() == before.tolist()
    wide = class_temperatures(torch.tensor([1.0, 2.0, 3.0]), before, rate=9.0, minimum=0.7, maximum=4.0)
    assert wide.tolist() == pytest.approx([4.0, 2.0, 0.7])


def test_fair_weights_follow_an_epoch_of_survived_steps():
    module = FairClassWeights(beta=1.0)
    module.prepare(classes=4)
    assert module(LABELS, SURVIVED).tolist() == [1.0] * 6
    module(LABELS[:2], SURVIVED[:2] + 2.0)
    module.end_epoch()
    means = [(1 + 3 + 3 + 5) / 4, 4.0, 7.0]
    raised = [1 / mean for mean in means]
    expected = [min(max(r * 3 / sum(raised), 5 / 6), 2.5) for r in raised]
    assert module.weights.tolist() == pytest.approx([*expected, 1.0])  # nobody saw the last class
    assert module(LABELS, SURVIVED).tolist() == pytest.approx([expected[label] for label in LABELS.tolist()])


def test_fair_weights_begin_anew_each_epoch_and_count_in_training_only():
    module = FairClassWeights()
    module.prepare(classes=3)
    module.eval()
    module(LABELS, SURVIVED)
    assert float(module.counts.sum()) == 0
    module.end_epoch()
    assert module.weights.tolist() == [1.0] * 3
    module.train()
    module(LABELS, SURVIVED)
    module.end_epoch()
    first = module.weights.clone()
    assert float(module.counts.sum()) == float(module.steps.sum()) == 0
    module.end_epoch()  # an epoch that saw nothing changes nothing
    assert torch.equal(module.weights, first)
    assert not module(LABELS, SURVIVED).requires_grad


def logits(seed):
    return 2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow(student, teacher, temperatures):
    found = []
    for s, t, label in zip(student.tolist(), teacher.tolist(), LABELS.tolist(), strict=True):
        tempered = [math.exp(x / temperatures[label]) for x in t]
        p, q = [x / sum(tempered) for x in tempered], [math.exp(x) / sum(math.exp(y) for y in s) for x in s]
        found.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return torch.tensor(found, dtype=torch.float64)


def test_a_tempered_target_takes_its_step_at_the_end_of_the_epoch():
    module = ClassTemperedTarget()
    student, teacher = logits(1), logits(2)
    torch.testing.assert_close(module(student, teacher, LABELS), slow(student, teacher, [1.0] * 3))
    module.prepare(classes=3)
    torch.testing.assert_close(module(student, teacher, LABELS, rate=0.4), slow(student, teacher, [1.0] * 3))
    errors = [0.0, 0.0, 0.0]
    for s, label in zip(student.tolist(), LABELS.tolist(), strict=True):
        errors[label] += math.log(sum(math.exp(x) for x in s)) - s[label]
    gaps = [error - sum(errors) / 3 for error in errors]
    expected = [min(max(1 - 0.4 * gap / max(abs(g) for g in gaps), 0.5), 5.0) for gap in gaps]
    module.end_epoch()
    assert module.temperatures.tolist() == pytest.approx(expected, rel=1e-5)
    assert max(abs(t - 1) for t in expected) == pytest.approx(0.4)
    torch.testing.assert_close(
        module(student, teacher, LABELS), slow(student, teacher, module.temperatures.tolist()), rtol=1e-6, atol=1e-8
    )
    tempered = teacher / module.temperatures.double()[LABELS].unsqueeze(1)
    torch.testing.assert_close(module.target(teacher, LABELS), tempered)


def test_a_tempered_target_counts_in_training_only_and_has_two_reductions():
    module = ClassTemperedTarget(reduction="classes_mean").eval()
    module.prepare(classes=3)
    value = module(logits(1), logits(2), LABELS)
    torch.testing.assert_close(value, slow(logits(1), logits(2), [1.0] * 3) / 3)
    assert float(module.losses.sum()) == 0


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (FairClassWeights, {"beta": -1.0}, "beta must not be negative"),
        (FairClassWeights, {"clamp": [2.0, 1.0]}, "clamp"),
        (FairClassWeights, {"clamp": [1.0]}, "clamp"),
        (ClassTemperedTarget, {"minimum": 0.0}, "positive and in order"),
        (ClassTemperedTarget, {"minimum": 3.0, "maximum": 1.0}, "in order, got 3.0 and 1.0"),
        (ClassTemperedTarget, {"reduction": "mean"}, "reduction"),
    ],
)
def test_refusals(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(**options)
