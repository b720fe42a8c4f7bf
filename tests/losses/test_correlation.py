"""Correlation losses against numpy."""

import numpy as np
import pytest
import torch

from kdrobust.losses.correlation import batch_correlation, class_correlation, dist

GENERATOR = torch.Generator().manual_seed(8)
STUDENT, TEACHER = (2 * torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))


def softmax(logits, temperature):
    powers = np.exp(logits.numpy() / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0), (0.0, 1.0, 2.0)])
def test_dist_is_one_minus_pearson(beta, gamma, temperature):
    q, p = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    inter = np.mean([1 - np.corrcoef(q[i], p[i])[0, 1] for i in range(6)])
    intra = np.mean([1 - np.corrcoef(q[:, j], p[:, j])[0, 1] for j in range(4)])
    ours = dist(STUDENT, TEACHER, beta=beta, gamma=gamma, temperature=temperature)
    assert float(ours) == pytest.approx(temperature**2 * (beta * inter + gamma * intra), rel=1e-5)


def test_dist_of_opposites_and_the_least_length():
    # two classes: the student sure of one, the teacher of the other
    student = torch.tensor([[5.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    assert float(dist(student, student.flip(1))) == pytest.approx(4.0, abs=1e-6)
    assert float(dist(student, student, min_norm=1e-3)) == pytest.approx(0.0, abs=1e-6)
    # shorter vectors than the least length count for less
    assert float(dist(1e-3 * student, student, min_norm=1.0)) == pytest.approx(2.0, abs=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gram_matrices_over_classes_and_over_the_batch(temperature):
    q, p = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    classes = float(class_correlation(STUDENT, TEACHER, temperature=temperature))
    batch = float(batch_correlation(STUDENT, TEACHER, temperature=temperature))
    assert classes == pytest.approx(((p.T @ p - q.T @ q) ** 2).sum() / 4)
    assert batch == pytest.approx(((p @ p.T - q @ q.T) ** 2).sum() / 6)


@pytest.mark.parametrize("loss", [dist, class_correlation, batch_correlation])
def test_a_temperature_that_is_not_positive(loss):
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        loss(STUDENT, TEACHER, temperature=0.0)
