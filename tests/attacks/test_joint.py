"""The joint attack: inside the ball, without a trace, and stronger than one that ignores the detector."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, JointAttack, Threat
from kdrobust.attacks.goals import margin
from kdrobust.attacks.joint import SCORE, log_odds
from kdrobust.errors import AttackError, UsageError

LINF, L2 = Threat(norm="linf", eps=0.2), Threat(norm="l2", eps=0.6)


class Plane(nn.Module):
    """Class 1 where the first pixel leads the second."""

    def forward(self, inputs):
        lead = 8 * (inputs[:, 0] - inputs[:, 1])
        return torch.stack([-lead, lead], dim=1)


class Watch(nn.Module):
    """Flags a third pixel that is low, and whatever the first pixel's rise leaves."""

    def forward(self, inputs):
        odds = 6 * (0.5 - inputs[:, 2]) + 2 * (inputs[:, 0] - 0.5)
        return torch.stack([-odds / 2, odds / 2], dim=1)


def material(n=40, seed=0):
    random = torch.Generator().manual_seed(seed)
    inputs = 0.3 + 0.4 * torch.rand(n, 3, generator=random)
    inputs[:, 0] = inputs[:, 1] - 0.1  # class 0, by a margin that both threats can cross
    return inputs, torch.zeros(n, dtype=torch.int64)


def joint(threat=LINF, **more):
    return JointAttack(threat=threat, **{"steps": 20, "step_size": float(threat.eps) / 5, **more})


@pytest.mark.parametrize("threat", [LINF, L2])
def test_it_stays_inside_and_says_what_is_true(threat):
    inputs, labels = material()
    found = joint(threat).run(Plane(), Watch(), inputs, labels)
    assert float(threat.distance(found.adversarial, inputs).max()) <= float(threat.eps) + 1e-6
    assert 0 <= float(found.adversarial.min()) <= float(found.adversarial.max()) <= 1
    reached = margin(Plane()(found.adversarial), labels)
    assert torch.equal(found.fooled, reached > 0)
    assert torch.allclose(found.goal_end, reached)
    assert torch.allclose(found.extra[SCORE], log_odds(Watch()(found.adversarial)))
    assert torch.allclose(found.goal_start, margin(Plane()(inputs), labels))
    assert bool(found.fooled.all())


def test_it_lies_below_an_attack_that_ignores_the_detector():
    inputs, labels = material()
    blind = GradientAttack(threat=LINF, goal="margin", steps=20, step_size=0.04, keep="best")
    before = log_odds(Watch()(blind(Plane(), inputs, labels)))
    found = joint().run(Plane(), Watch(), inputs, labels)
    assert bool((found.extra[SCORE] < before).all())
    assert float(found.extra[SCORE].mean()) < float(before.mean()) - 1


def test_of_several_weights_each_sample_has_the_best():
    inputs, labels = material()
    # from x itself: runs from random starts differ by more than their weight
    single = [joint(weights=[weight], start="none").run(Plane(), Watch(), inputs, labels) for weight in (0.01, 100.0)]
    both = joint(weights=[0.01, 100.0], start="none").run(Plane(), Watch(), inputs, labels)
    assert torch.equal(both.fooled, single[0].fooled | single[1].fooled)
    scores = torch.stack([torch.where(each.fooled, each.extra[SCORE], torch.inf) for each in single])
    best = both.fooled
    assert torch.allclose(both.extra[SCORE][best], scores.amin(dim=0)[best])


def test_where_the_classifier_cannot_be_fooled_the_highest_margin_is_kept():
    inputs, labels = material()
    inputs[:, 0] = inputs[:, 1] - 0.29
    found = joint(Threat(norm="linf", eps=0.1)).run(Plane(), Watch(), inputs, labels)
    assert not bool(found.fooled.any())
    # ±0.1 on both pixels leaves a lead of 0.09
    assert torch.allclose(found.goal_end, torch.full((40,), -16 * 0.09), atol=1e-4)


def test_it_leaves_no_trace_and_repeats_itself():
    inputs, labels = material()
    classifier, detector = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), nn.Linear(3, 2)
    state = torch.get_rng_state()
    attack = joint(steps=3)
    with torch.inference_mode():
        first = attack.run(classifier, detector, inputs, labels, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert classifier.training
    assert detector.training
    assert all(p.requires_grad and p.grad is None for p in [*classifier.parameters(), *detector.parameters()])
    again = attack.run(classifier, detector, inputs, labels, seed=3)
    assert torch.equal(first.adversarial, again.adversarial)
    other = attack.run(classifier, detector, inputs, labels, seed=4)
    assert not torch.equal(first.adversarial, other.adversarial)


def test_a_sample_does_not_depend_on_its_batch():
    inputs, labels = material()
    keys = torch.arange(40) + 7
    whole = joint().run(Plane(), Watch(), inputs, labels, keys=keys)
    part = joint().run(Plane(), Watch(), inputs[10:15], labels[10:15], keys=keys[10:15])
    assert torch.equal(whole.adversarial[10:15], part.adversarial)


def test_changed_changes_what_it_says():
    attack = joint(weights=["1/2"], confidence=0.3, restarts=2, start="none")
    other = attack.changed(eps=1.0, step_size=0.1, steps=7).describe()
    assert (other["threat"]["eps"], other["step_size"], other["steps"]) == (1.0, 0.1, 7)
    same = {"weights": [0.5], "confidence": 0.3, "restarts": 2, "start": "none"}
    assert {key: other[key] for key in same} == same
    assert attack.changed().describe() == attack.describe()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": []}, r"attack.weights=\[\]: give at least one"),
        ({"weights": [-1]}, "attack.weights=-1: must not be negative"),
        ({"steps": 0}, "attack.steps=0: must be at least 1"),
        ({"start": "anywhere"}, "attack.start=anywhere"),
        ({"confidence": "much"}, "attack.confidence"),
    ],
)
def test_mistakes(given, words):
    with pytest.raises(UsageError, match=words):
        joint(**given)


def test_what_is_no_detector_is_refused():
    inputs, labels = material()
    with pytest.raises(AttackError, match=r"detector returned shape \(40, 3\); expected \[B, 2\]"):
        joint().run(Plane(), nn.Linear(3, 3), inputs, labels)
    with pytest.raises(AttackError, match="pixels lie in"):
        joint().run(Plane(), Watch(), 3 * inputs, labels)
