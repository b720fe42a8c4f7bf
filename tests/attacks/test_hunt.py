"""The loop that lets a fooled sample go."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.errors import UsageError
from kdrobust.models import Classifier, ResNet
from kdrobust.spec import InputSpec

THREAT = Threat(norm="linf", eps=0.1)


class Counting(nn.Module):
    """Counts the samples it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.asked = []

    def forward(self, inputs):
        self.asked.append(len(inputs))
        return self.model(inputs)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).to(dtype).eval()


def centre(model, head, inputs):
    """Without it, random weights answer every input with one class, far from all others."""
    with torch.no_grad():
        head.bias -= model(inputs).mean(dim=0)
    return model(inputs).argmax(dim=1)


def batch(model, count=40):
    """Samples the model is right about."""
    inputs = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return inputs, centre(model, [module for module in model.modules() if isinstance(module, nn.Linear)][-1], inputs)


def make(**options):
    settings = {"steps": 8, "step_size": 0.02, "start": "uniform", "keep": "fooling", **options}
    return GradientAttack(threat=THREAT, **settings)


def slow(model, inputs, labels, start, steps, size):
    """Every sample alone to the end: the place of its first fooling iterate (None: none), and all iterates."""
    points, first = [start], None
    for step in range(steps + 1):
        point = points[-1].clone().requires_grad_(True)
        logits = model(point)
        if first is None and int(logits.argmax()) != int(labels):
            first = step
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels), point)
        moved = (points[-1] + size * gradient.sign()).clamp(inputs - THREAT.radius, inputs + THREAT.radius)
        points.append(moved.clamp(0, 1))
    return first, points[:-1]


def test_first_fooling_iterate_as_in_a_slow_loop():
    model = network()
    inputs, labels = batch(model)
    start = THREAT.random_start(inputs, "uniform", torch.arange(len(inputs)), seed=5)
    found = make().run(model, inputs, labels, initial=start)
    places = []
    for row in range(len(inputs)):
        first, points = slow(model, inputs[row : row + 1], labels[row : row + 1], start[row : row + 1], 8, 0.02)
        assert bool(found.fooled[row]) == (first is not None)
        if first is not None:
            torch.testing.assert_close(found.adversarial[row : row + 1], points[first])
            places.append(first)
        else:
            worth = [float(F.cross_entropy(model(point).detach(), labels[row : row + 1])) for point in points]
            assert float(found.goal_end[row]) == pytest.approx(max(worth))
    assert 3 < len(places) < len(inputs)
    assert len(set(places)) > 2


def test_fallen_samples_cost_nothing_more():
    model = Counting(network())
    inputs, labels = batch(model)
    model.asked.clear()
    make().run(model, inputs, labels, validate=False)
    assert model.asked[0] == len(inputs)
    assert model.asked == sorted(model.asked, reverse=True)
    assert model.asked[-1] < len(inputs)


def test_batch_size_changes_nothing():
    model = network()
    inputs, labels = batch(model)
    keys = torch.arange(len(inputs))
    whole = make(restarts=2).run(model, inputs, labels, keys=keys)
    alone = [
        make(restarts=2).run(model, inputs[row : row + 1], labels[row : row + 1], keys=keys[row : row + 1])
        for row in range(len(inputs))
    ]
    assert torch.equal(whole.fooled, torch.cat([found.fooled for found in alone]))
    torch.testing.assert_close(whole.adversarial, torch.cat([found.adversarial for found in alone]))


def test_it_breaks_no_less_than_best():
    model = network()
    inputs, labels = batch(model)
    best = make(keep="best").run(model, inputs, labels).fooled
    assert not bool((best & ~make().run(model, inputs, labels).fooled).any())


def test_targeted():
    model = network()
    inputs, labels = batch(model)
    found = make(targeted=True, steps=20).run(model, inputs, (labels + 1) % 4)
    assert torch.equal(found.fooled, model(found.adversarial).argmax(dim=1) == (labels + 1) % 4)
    assert bool(found.fooled.any())


def test_survived_counts_steps_before_the_fall():
    model = network()
    inputs, labels = batch(model)
    survived = torch.full((len(inputs),), -1.0)
    found = make(start="none").run(model, inputs, labels, survived=survived)
    assert bool((survived[~found.fooled] == 8).all())
    assert bool((survived[found.fooled] <= 8).all())
    assert float(survived.min()) >= 1


def test_no_steps_and_everybody_fooled():
    model = network()
    inputs, labels = batch(model)
    assert not bool(make(steps=0, start="none").run(model, inputs, labels).fooled.any())
    wrong = make(start="none").run(model, inputs, (labels + 1) % 4)
    assert bool(wrong.fooled.all())
    assert torch.equal(wrong.adversarial, inputs)


@pytest.mark.parametrize("exact_steps", [0, 3, 8])
def test_last_word_is_the_exact_models(exact_steps):
    """In half precision too, every break is one of the model itself; with all steps exact the answer is the exact one."""
    spec = InputSpec(shape=(3, 16, 16), classes=5)
    torch.manual_seed(0)
    model = Classifier(ResNet(spec=spec, blocks=(1, 1), width=0.25), spec=spec).eval()
    inputs = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = centre(model, model.network.head, inputs)
    threat = Threat(norm="linf", eps=0.005)
    settings = {"threat": threat, "steps": 8, "step_size": 0.001, "keep": "fooling"}
    exact = GradientAttack(**settings).run(model, inputs, labels)
    found = GradientAttack(**settings, precision="bf16", exact_steps=exact_steps).run(model, inputs, labels)
    assert torch.equal(found.fooled, model(found.adversarial).argmax(dim=1) != labels)
    assert 0 < int(exact.fooled.sum()) < len(inputs)
    assert int((found.fooled != exact.fooled).sum()) <= 2
    if exact_steps == 8:
        assert torch.equal(found.adversarial, exact.adversarial)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": 1.0}, "keep=fooling"),
        ({"eot": 2}, "keep=fooling"),
        ({"keep": "best", "exact_steps": 2}, "exact_steps=2"),
        ({"exact_steps": -1}, "exact_steps=-1"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(UsageError, match=words):
        make(**options)
