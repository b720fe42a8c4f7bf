"""Decoupled distillation against a loop."""

import math

import pytest
import torch

from kdrobust.losses.decoupled import dkd
from kdrobust.losses.knowledge import soft_target

GENERATOR = torch.Generator().manual_seed(9)
STUDENT, TEACHER = (2 * torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
LABELS = torch.tensor([0, 3, 1, 2, 3])


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(row):
    powers = [math.exp(x) for x in row]
    return [x / sum(powers) for x in powers]


def parts(temperature):
    for s, t, label in zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True):
        s, t = [x / temperature for x in s], [x / temperature for x in t]
        q, p = softmax(s), softmax(t)
        target = kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        rest = [k for k in range(4) if k != label]
        others = kl(softmax([t[k] for k in rest]), softmax([s[k] for k in rest]))
        yield target, others, p[label]


@pytest.mark.parametrize(
    ("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (0.0, 1.0, 2.0), (1.0, 0.0, 2.0)]
)
def test_the_two_parts(alpha, beta, temperature):
    expected = [temperature**2 * (alpha * target + beta * others) for target, others, _ in parts(temperature)]
    ours = dkd(STUDENT, TEACHER, LABELS, alpha=alpha, beta=beta, temperature=temperature)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


def test_the_classical_loss_is_a_weighted_sum_of_both():
    # eq. 6: KL = KL of the binary + (1 - p_y) · KL of the others
    for place, (target, others, truth) in enumerate(parts(1.0)):
        whole = float(soft_target(STUDENT, TEACHER)[place])
        assert whole == pytest.approx(target + (1 - truth) * others)


def test_two_classes_leave_the_others_nothing_to_say():
    student, teacher = STUDENT[:, :2], TEACHER[:, :2]
    labels = torch.tensor([0, 1, 0, 1, 1])
    torch.testing.assert_close(
        dkd(student, teacher, labels, beta=8.0, temperature=2.0), soft_target(student, teacher, temperature=2.0)
    )
    with pytest.raises(ValueError, match="temperature"):
        dkd(student, teacher, labels, temperature=-1.0)
