"""Distances of logits, in numbers."""

import pytest
import torch
from torch.nn import functional as F

from kdrobust.losses.distances import logit_euclidean, logit_l2, logsoftmax_euclidean
from kdrobust.losses.knowledge import logit_mse

STUDENT = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
TEACHER = torch.tensor([[4.0, 6.0, 3.0], [0.0, 0.0, 0.0]])


def test_three_four_five():
    assert logit_l2(STUDENT, TEACHER).tolist() == [25.0, 0.0]
    assert logit_euclidean(STUDENT, TEACHER).tolist() == [5.0, 0.0]
    torch.testing.assert_close(logit_l2(STUDENT, TEACHER), 3 * logit_mse(STUDENT, TEACHER))


def test_log_probabilities_do_not_see_a_shift():
    moved = logsoftmax_euclidean(STUDENT + 7.0, TEACHER - 2.0)
    torch.testing.assert_close(moved, logsoftmax_euclidean(STUDENT, TEACHER))
    expected = (F.log_softmax(STUDENT[0], 0) - F.log_softmax(TEACHER[0], 0)).norm()
    assert float(moved[0]) == pytest.approx(float(expected), rel=1e-5)
    assert float(logit_euclidean(STUDENT + 7.0, TEACHER)[1]) == pytest.approx(7.0 * 3**0.5)


@pytest.mark.parametrize("distance", [logit_euclidean, logsoftmax_euclidean])
def test_the_gradient_is_a_direction_and_none_where_both_agree(distance):
    student = STUDENT.clone().requires_grad_(True)
    distance(student, TEACHER).sum().backward()
    assert student.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert float(student.grad[0].norm()) > 0.1
    if distance is logit_euclidean:
        assert student.grad[0].tolist() == pytest.approx([-0.6, -0.8, 0.0])
