"""The rivals of DTKD's weighting, against loops."""

import math

import pytest
import torch

from kdrobust.losses.rivals import Triangle, by_entropy, by_gap, by_renyi, by_trust
from kdrobust.losses.weighting import js_distance

GENERATOR = torch.Generator().manual_seed(14)
STUDENT, TEACHER = (2 * torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
P, Q = (values.softmax(1).tolist() for values in (TEACHER, STUDENT))


def scaled(values):
    return [value * len(values) / sum(values) for value in values]


def check(found, labels, knowledge):
    for ours, theirs in zip(found, (labels, knowledge), strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float64), rtol=1e-6, atol=1e-9)
        assert not ours.requires_grad


def test_trust_gives_what_the_teacher_loses_to_the_labels():
    say = [0.7 * p[y] ** 0.5 for p, y in zip(P, LABELS.tolist(), strict=True)]
    check(by_trust(STUDENT, TEACHER, LABELS, alpha=0.3, beta=0.5), [1 - x for x in say], say)
    check(by_trust(STUDENT, TEACHER, LABELS, alpha=0.3, beta=0.0), [0.3] * 6, [0.7] * 6)


def test_gap_is_wsld_s_weight():
    triples = list(zip(Q, P, LABELS.tolist(), strict=True))
    raw = [1 - math.exp(-math.log(q[y]) / math.log(p[y])) for q, p, y in triples]
    check(by_gap(STUDENT, TEACHER, LABELS, alpha=0.2), [0.2] * 6, [0.8 * x for x in scaled(raw)])


def test_entropy_is_a_product():
    def entropy(logits):
        p = (logits / 4.0).softmax(1).tolist()
        return [-sum(x * math.log(x) for x in row) for row in p]

    raw = [a * b for a, b in zip(entropy(STUDENT), entropy(TEACHER), strict=True)]
    check(by_entropy(STUDENT, TEACHER, alpha=0.1), [0.1] * 6, [0.9 * x for x in scaled(raw)])
    with pytest.raises(ValueError, match="temperature"):
        by_entropy(STUDENT, TEACHER, alpha=0.1, temperature=0.0)


def test_renyi_leaves_the_surest_sample_nothing():
    entropy = [-math.log(sum(x * x for x in row)) for row in P]
    raw = [value - min(entropy) for value in entropy]
    check(by_renyi(STUDENT, TEACHER, alpha=0.1), [0.1] * 6, [0.9 * x for x in scaled(raw)])
    same = TEACHER[:1].repeat(6, 1)
    check(by_renyi(STUDENT, same, alpha=0.1), [0.1] * 6, [0.9] * 6)  # nothing to rank: everybody counts alike


def one_hot(label):
    return torch.eye(3, dtype=torch.float64)[label].unsqueeze(0)


def side(first, second):
    return float(js_distance(first, second))


def triangle(means):
    rows, raw, say = [], [], []
    for s, t, label in zip(STUDENT.softmax(1), TEACHER.softmax(1), LABELS.tolist(), strict=True):
        s, t, truth = s.unsqueeze(0), t.unsqueeze(0), one_hot(label)
        off = min(side(t, truth), side(means[label].unsqueeze(0), truth)) if means is not None else side(t, truth)
        say.append(0.75 * (1 - off))
        raw.append(side(s, t) + side(s, truth))
        rows.append(1 - say[-1])
    return rows, [x * y for x, y in zip(say, scaled(raw), strict=True)]


def test_the_triangle_trusts_the_nearer_of_sample_and_class_mean():
    module = Triangle(alpha=0.25)
    check(module(STUDENT, TEACHER, LABELS), *triangle(None))  # nothing is kept before the classes are known
    module.prepare(classes=3)
    means = [TEACHER.softmax(1)[label == LABELS].mean(0) for label in range(3)]
    # the means are kept in float32
    for ours, theirs in zip(module(STUDENT, TEACHER, LABELS), triangle(means), strict=True):
        assert ours.tolist() == pytest.approx(theirs, rel=1e-5)
    assert module.counts.tolist() == [2.0, 2.0, 2.0]
    module(STUDENT, TEACHER, LABELS)
    assert module.counts.tolist() == [4.0, 4.0, 4.0]


def test_the_triangle_learns_in_training_only_and_guards_against_an_outlier():
    module = Triangle(alpha=0.25)
    module.prepare(classes=3)
    sure = 9.0 * torch.eye(3, dtype=torch.float64)[LABELS]
    for _ in range(20):
        module(STUDENT, sure, LABELS)
    before = module.sums.clone()
    module.eval()
    outlier = sure.clone()
    outlier[0] = outlier[1]
    labels_weight, _ = module(STUDENT, outlier, LABELS)
    assert torch.equal(module.sums, before)
    assert float(labels_weight[0]) == pytest.approx(0.25, abs=0.02)
    fresh = Triangle(alpha=0.25)
    assert float(fresh(STUDENT, outlier, LABELS)[0][0]) > 0.9


def test_the_total_say_of_the_teacher_is_that_of_no_weighting():
    for found in (by_gap(STUDENT, TEACHER, LABELS, alpha=0.4), by_entropy(STUDENT, TEACHER, alpha=0.4),
                  by_renyi(STUDENT, TEACHER, alpha=0.4)):  # fmt: skip
        assert float(found[1].mean()) == pytest.approx(0.6)
