"""The checks' own ascent and search: right by hand, equal to nobody's code by accident, independent of the batch."""

import math

import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.evaluation.checks.climb import (
    GOALS,
    climb,
    cross_entropy,
    direction,
    into,
    margin,
    rescaled_cross_entropy,
)
from kdrobust.evaluation.checks.patches import random_patches, reach
from kdrobust.evaluation.checks.surrogate import linear_answers, linear_directions


@pytest.fixture
def batch(digits):
    inputs = digits["inputs"][:60].float() / 255
    model = digits["models"]["cnn", 0.0]
    right = model(inputs).argmax(1) == digits["labels"][:60]
    return model, inputs[right], digits["labels"][:60][right], digits["indices"][:60][right]


def test_goals_are_their_formulas():
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [-3.0, -2.0, -9.0]]), torch.tensor([0, 0])
    assert margin(logits, labels).tolist() == [-1.5, 1.0]
    entropy = [-row[0] + math.log(sum(math.exp(value) for value in row)) for row in logits.tolist()]
    assert cross_entropy(logits, labels).tolist() == pytest.approx(entropy)
    rescaled = rescaled_cross_entropy(logits, labels)
    assert rescaled_cross_entropy(1e4 * logits, labels).tolist() == pytest.approx(rescaled.tolist())
    assert set(GOALS) == {"cross_entropy", "margin"}


def test_directions_have_unit_length_and_what_is_not_finite_stands_still():
    gradient = torch.tensor([[[3.0, -4.0]], [[0.0, torch.nan]]])
    assert direction(gradient, "linf").tolist() == [[[1.0, -1.0]], [[0.0, 0.0]]]
    assert torch.allclose(direction(gradient, "l2"), torch.tensor([[[0.6, -0.8]], [[0.0, 0.0]]]))


def test_into_ball_and_box():
    inputs, far = torch.tensor([[0.5, 0.9]] * 2), torch.tensor([[1.1, 1.7]] * 2)
    assert torch.allclose(into(far, inputs, norm="linf", eps=0.2), torch.tensor([[0.7, 1.0]] * 2))
    own = into(far, inputs, norm="linf", eps=torch.tensor([0.2, 0.3]))
    assert torch.allclose(own, torch.tensor([[0.7, 1.0], [0.8, 1.0]]))
    assert torch.allclose(into(far, inputs, norm="l2", eps=0.1)[0], torch.tensor([0.56, 0.98]))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.0)])
@pytest.mark.parametrize("goal", sorted(GOALS))
def test_the_climb_walks_where_the_attack_walks(batch, norm, eps, goal):
    model, inputs, labels, _ = batch
    path = climb(model, inputs, labels, norm=norm, eps=eps, steps=7, stride=0.25, goal=GOALS[goal], leave=False)
    attack = GradientAttack(threat=Threat(norm=norm, eps=eps), goal=goal, steps=7, step_size=eps / 4)
    found = attack.run(model, inputs, labels)
    assert torch.allclose(path.points, found.adversarial, atol=1e-5)
    assert torch.allclose(path.values[:, 0], found.goal_start, atol=1e-4)
    assert torch.allclose(path.values[:, -1], found.goal_end, atol=1e-3)


def test_leaving_changes_no_verdict_and_neither_does_the_batch(batch):
    model, inputs, labels, _ = batch
    given = {"norm": "linf", "eps": 0.1, "steps": 8, "stride": 0.25}
    stayed = climb(model, inputs, labels, **given, leave=False)
    for changes in ({}, {"batch_size": 7}):
        left = climb(model, inputs, labels, **given, **changes)
        assert left.broken.tolist() == stayed.broken.tolist()
        assert left.values[left.broken].isnan().any()
        assert not left.values[~left.broken].isnan().any()
    assert 0 < int(stayed.broken.sum()) < len(labels)
    nobody = climb(model, inputs[:0], labels[:0], **given)
    assert len(nobody.broken) == len(nobody.values) == 0


def test_a_sample_broken_on_the_way_is_broken():
    class Band(nn.Module):
        def forward(self, inputs):
            away = (inputs - 0.5).abs()
            return torch.cat([away * 0, 0.02 - (away - 0.1).abs()], dim=1)

    path = climb(
        Band(), torch.full((1, 1), 0.45), torch.tensor([0]), norm="linf", eps=0.3, steps=4, stride=0.2,
        goal=lambda logits, labels: -logits[:, 0] * 0 + logits[:, 1], leave=False,
    )  # fmt: skip
    assert path.broken.tolist() == [True]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.0)])
def test_the_search_stays_inside_and_depends_on_the_key_alone(batch, norm, eps):
    model, inputs, labels, keys = batch
    seen = []

    class Watched(nn.Module):
        def forward(self, points):
            seen.append(points)
            return model(points)

    given = {"norm": norm, "eps": eps, "queries": 40, "seed": 3}
    broken = random_patches(Watched(), inputs, labels, keys, **given)
    assert len(seen) == 40
    assert 0 < int(broken.sum()) < len(labels)
    first = seen[0] - inputs
    length = first.abs().amax(dim=(1, 2, 3)) if norm == "linf" else first.flatten(1).norm(dim=1)
    assert float(length.max()) <= eps + 1e-5
    assert all(float(points.min()) >= 0 and float(points.max()) <= 1 for points in seen)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    again = random_patches(model, inputs[order], labels[order], keys[order], **given, batch_size=9)
    assert again.tolist() == broken[order].tolist()
    assert not random_patches(model, inputs, labels, keys, **given | {"eps": 0.0}).any()


def test_the_search_takes_vectors_too(digits):
    model = nn.Sequential(nn.Linear(64, 10))
    inputs = digits["inputs"][:20].float().flatten(1) / 255
    labels = model(inputs).argmax(dim=1)
    given = {"norm": "linf", "eps": 0.5, "queries": 60, "seed": 0}
    assert random_patches(model, inputs, labels, torch.arange(20), **given).float().mean() > 0.5


def test_reach_has_length_eps():
    delta = torch.tensor([[[[0.3, -0.4]]]])
    assert reach(delta, "linf", 0.1).flatten().tolist() == pytest.approx([0.1, -0.1])
    assert reach(delta, "l2", 0.1).flatten().tolist() == pytest.approx([0.06, -0.08])


def test_a_linear_model_is_its_own_surrogate():
    generator = torch.Generator().manual_seed(0)
    inputs, true = torch.rand(400, 12, generator=generator), torch.randn(12, 4, generator=generator)
    logits = 1e3 * (inputs @ true)
    weights = linear_answers(inputs, logits)
    assert weights.shape == (12, 4)
    labels = logits.argmax(dim=1)
    way = linear_directions(weights, inputs, labels, logits, 0)
    aims = logits.argsort(dim=1, descending=True)[:, 1]
    ideal = (true[:, aims] - true[:, labels]).T
    assert float(torch.cosine_similarity(way, ideal).mean()) > 0.9
    one_hot = linear_answers(inputs, nn.functional.one_hot(labels, 4).float())
    assert float(torch.cosine_similarity(linear_directions(one_hot, inputs, labels, logits, 0), ideal).mean()) > 0.7
