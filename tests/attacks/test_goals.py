"""Goals against explicit loops and closed forms."""

from functools import partial

import pytest
import torch

from kdrobust.attacks import GOALS, Target
from kdrobust.attacks.goals import KLToFixed, cross_entropy, describe_goal, dlr, find_goal, kl, margin
from kdrobust.errors import UsageError

LOGITS = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 4
LABELS = torch.arange(20) % 5


def test_margin_equals_loop_with_negative_logits():
    assert float(LOGITS.max()) < 0
    loop = [
        max(v for j, v in enumerate(row) if j != y) - row[y]
        for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ]
    assert margin(LOGITS, LABELS).tolist() == pytest.approx(loop)


def test_dlr_equals_loop():
    loop = []
    for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        ordered, others = sorted(row, reverse=True), [v for j, v in enumerate(row) if j != y]
        loop.append(-(row[y] - max(others)) / (ordered[0] - ordered[2] + 1e-12))
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx(loop)
    torch.testing.assert_close(dlr(3 * LOGITS + 7, LABELS), dlr(LOGITS, LABELS))


def test_dlr_needs_three_classes():
    with pytest.raises(UsageError, match="at least 3"):
        dlr(LOGITS[:, :2], LABELS % 2)


def test_cross_entropy_and_kl():
    direct = LOGITS.logsumexp(1) - LOGITS.gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS), direct)
    assert float(kl(LOGITS, LOGITS).abs().max()) == 0
    other = LOGITS.flip(0)
    p, q = LOGITS.softmax(1), other.softmax(1)
    torch.testing.assert_close(kl(LOGITS, other), (p * (p / q).log()).sum(1))


@pytest.mark.parametrize("name", GOALS)
def test_every_goal_gives_one_value_a_sample(name):
    target = Target(model=lambda x: x, inputs=LOGITS, labels=LABELS, teacher=lambda x: 2 * x)
    value = find_goal(name)(target)(LOGITS + 0.1, LOGITS.flip(0))
    assert value.shape == (20,)
    assert bool(value.isfinite().all())


def test_live_teacher_is_asked_about_the_attacked_inputs():
    target = Target(model=lambda x: x, inputs=LOGITS, labels=LABELS, teacher=lambda x: x)
    point = LOGITS.flip(0)
    assert float(GOALS["kl_to_live_teacher"](target)(point, point).abs().max()) == 0
    assert float(GOALS["kl_to_teacher"](target)(point, point).max()) > 0


def test_known_teacher_logits_come_first_and_lazily():
    def never(x):
        raise AssertionError("asked")

    for known in (LOGITS, lambda: LOGITS):
        target = Target(model=never, inputs=LOGITS, labels=LABELS, teacher=never, teacher_logits=known)
        assert torch.equal(target.teacher_on_clean(), LOGITS)


def test_names():
    with pytest.raises(UsageError, match="did you mean margin"):
        find_goal("margn")
    with pytest.raises(UsageError, match="there are cross_entropy"):
        find_goal("zzz")
    assert describe_goal("dlr") == "dlr"
    assert describe_goal(margin) == "margin"


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kl_to_a_fixed_target_has_the_bits_of_kl(temperature, dtype):
    generator = torch.Generator().manual_seed(0)
    target, logits = (5 * torch.randn(20, 7, generator=generator).to(dtype) for _ in range(2))
    found = []
    for function in (lambda values: kl(target, values, temperature), partial(KLToFixed(target, temperature), None)):
        point = logits.clone().requires_grad_(True)
        value = function(point)
        (gradient,) = torch.autograd.grad(value.sum(), point)
        found.append((value, gradient))
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
