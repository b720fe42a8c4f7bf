"""Relation losses against loops over pairs and triples."""

import itertools

import numpy as np
import pytest
import torch

from kdrobust.losses import relations
from kdrobust.losses.relations import neighbour_congruence, pkt, relational, similarity_preserving

GENERATOR = torch.Generator().manual_seed(13)
STUDENT, TEACHER = (torch.randn(5, size, generator=GENERATOR, dtype=torch.float64) for size in (3, 4))
S, T = STUDENT.numpy(), TEACHER.numpy()


def unit(values):
    length = np.linalg.norm(values)
    return values / length if length > 0 else values


def smooth(difference):
    size = abs(difference)
    return 0.5 * size**2 if size < 1 else size - 0.5


def distances(values):
    found = np.array([[np.linalg.norm(a - b) for b in values] for a in values])
    return found / found[found > 1e-9].mean()


def angles(values):
    return np.array([[[unit(a - b) @ unit(c - b) for c in values] for a in values] for b in values])


def slow_relational(student, teacher, distance_weight=25.0, angle_weight=50.0):
    pairs = [smooth(x) for x in (distances(student) - distances(teacher)).ravel()]
    triples = [smooth(x) for x in (angles(student) - angles(teacher)).ravel()]
    return distance_weight * np.mean(pairs) + angle_weight * np.mean(triples)


def twins():
    values = STUDENT.clone()
    values[3] = values[1]
    return values


def test_relational():
    assert float(relational(STUDENT, TEACHER)) == pytest.approx(slow_relational(S, T))
    found = relational(STUDENT, TEACHER, distance_weight=2.0, angle_weight=0.0)
    assert float(found) == pytest.approx(slow_relational(S, T, 2.0, 0.0))
    lengths = [np.array([unit(row) for row in values]) for values in (S, T)]
    assert float(relational(STUDENT, TEACHER, normalize=True)) == pytest.approx(slow_relational(*lengths))


def test_coincident_samples_are_no_pair():
    assert float(relational(twins(), TEACHER)) == pytest.approx(slow_relational(twins().numpy(), T), rel=1e-6)
    student = twins().float().requires_grad_(True)
    relational(student, TEACHER.float()).backward()
    assert float(student.grad.abs().max()) < 100


def test_nothing_depends_on_place_turn_or_scale():
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64))
    moved = 4.0 * STUDENT @ turn + 1.5
    torch.testing.assert_close(relational(moved, TEACHER), relational(STUDENT, TEACHER))
    assert float(relational(moved, STUDENT)) < 1e-12


def test_the_angles_are_the_same_in_pieces(monkeypatch):
    whole = relational(STUDENT, TEACHER, distance_weight=0.0)
    monkeypatch.setattr(relations, "_CHUNK", 1)
    torch.testing.assert_close(relational(STUDENT, TEACHER, distance_weight=0.0), whole)


def test_similarity_preserving():
    rows = [np.array([unit(row) for row in values @ values.T]) for values in (S, T)]
    assert float(similarity_preserving(STUDENT, TEACHER)) == pytest.approx(((rows[0] - rows[1]) ** 2).sum() / 25)
    maps = STUDENT.view(5, 3, 1, 1)
    torch.testing.assert_close(similarity_preserving(maps, TEACHER), similarity_preserving(STUDENT, TEACHER))


def test_pkt():
    def probabilities(values):
        similar = np.array([[(unit(a) @ unit(b) + 1) / 2 for b in values] for a in values])
        return similar / similar.sum(axis=1, keepdims=True)

    p, q = probabilities(T), probabilities(S)
    assert float(pkt(STUDENT, TEACHER)) == pytest.approx((p * np.log(p / q)).mean(), rel=1e-4)
    blank = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    pkt(blank, TEACHER).backward()
    assert bool(blank.grad.isfinite().all())


def test_neighbour_congruence_depends_on_the_order():
    difference = np.abs(S - T[:, :3])
    expected = np.mean([first @ second for first, second in itertools.pairwise(difference)])
    ours = neighbour_congruence(STUDENT, TEACHER[:, :3])
    assert float(ours) == pytest.approx(expected)
    order = [0, 2, 1, 4, 3]
    assert float(neighbour_congruence(STUDENT[order], TEACHER[order, :3])) != pytest.approx(expected)
    with pytest.raises(ValueError, match="needs equal sizes, got 3 and 4 elements a sample"):
        neighbour_congruence(STUDENT, TEACHER)
