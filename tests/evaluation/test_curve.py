"""Security curves against counts and integrals done the long way."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrobust.attacks import AttackResult, Threat
from kdrobust.evaluation import evaluate, exact_curves, fixed_eps_curve, security_curve, to_result, wilson


def test_curve_by_hand():
    distances, clean = [0.1, 0.3, np.nan, 0.2, 0.4], [True, True, True, False, True]
    curve = security_curve(distances, clean, limit=0.5, eps=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert curve.accuracy == (0.8, 0.6, 0.6, 0.4, 0.2, 0.2)
    assert (curve.clean, curve.n, curve.limit, curve.exact) == (0.8, 5, 0.5, True)
    assert curve.auc == pytest.approx((0.1 + 0.3 + 0.5 + 0.0 + 0.4) / 5 / 0.5)
    assert curve.eps50 == 0.3
    assert (curve.low[1], curve.high[1]) == wilson(3, 5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), min_size=1, max_size=40))
def test_curve_counts_and_integrates(samples):
    distances, clean = (np.array(side) for side in zip(*samples, strict=True))
    curve = security_curve(distances, clean, limit=1.0)
    for eps, accuracy in list(zip(curve.eps, curve.accuracy, strict=True))[1:]:
        assert accuracy == np.mean([right and d > eps for d, right in zip(distances, clean, strict=True)])
    assert curve.accuracy[0] == clean.mean()
    assert all(a >= b for a, b in zip(curve.accuracy, curve.accuracy[1:], strict=False))
    fine = (np.arange(2000) + 0.5)[:, None] / 2000
    assert curve.auc == pytest.approx((clean & (distances > fine)).mean(), abs=1e-3)
    if curve.eps50 is not None:
        at = (clean & (distances > curve.eps50)).mean()
        assert at <= 0.5
        if curve.eps50 > 0:
            assert (clean & (distances > np.nextafter(curve.eps50, 0))).mean() > 0.5


def test_nobody_falls_and_everybody_has_fallen():
    strong = security_curve([np.inf, np.nan], [True, True], limit=0.1)
    assert (set(strong.accuracy), strong.auc, strong.eps50) == ({1.0}, 1.0, None)
    weak = security_curve([np.nan, np.nan], [False, False], limit=0.1)
    assert (set(weak.accuracy), weak.auc, weak.eps50) == ({0.0}, 0.0, 0.0)
    none = security_curve([], [], limit=0.1)
    assert (none.n, none.clean, none.auc, none.eps50) == (0, None, None, None)
    assert none.low[0] == 0.0
    assert none.high[0] == 1.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"distances": [0.1]}, "a distance for every sample"),
        ({"limit": 0.0}, "limit must be"),
        ({"limit": np.inf}, "limit must be"),
        ({"distances": [-0.1, 0.1]}, "negative"),
        ({"eps": [0.2, 0.1]}, "ascend"),
        ({"eps": [0.1, 2.0]}, "ascend"),
    ],
)
def test_nonsense_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        security_curve(**{"distances": [0.1, 0.2], "clean": [True, True], "limit": 1.0, **arguments})


def test_attacks_at_several_radii_are_joined_by_lines():
    curve = fixed_eps_curve([0.0, 0.1, 0.3], [90, 70, 30], 100)
    assert curve.accuracy == (0.9, 0.7, 0.3)
    assert (curve.low[2], curve.high[2]) == wilson(30, 100)
    assert curve.auc == pytest.approx((0.1 * 0.8 + 0.2 * 0.5) / 0.3)
    assert curve.eps50 == pytest.approx(0.2)
    assert (curve.clean, curve.exact) == (0.9, False)
    assert fixed_eps_curve([0.1], [40], 100).eps50 == 0.1
    assert fixed_eps_curve([0.1], [60], 100).eps50 is None
    assert fixed_eps_curve([0.0, 0.1], [0, 0], 0).auc is None
    for eps, correct in (([], []), ([0.0], [1, 2]), ([0.1, 0.1], [1, 1]), ([-0.1], [1])):
        with pytest.raises(ValueError, match=r"radii|radius"):
            fixed_eps_curve(eps, correct, 2)


class Shift:
    """A made-up minimum-norm attack: moves sample i by i/100; the model's answer changes beyond 0.035."""

    def run(self, model, inputs, labels, *, keys, seed):
        zeros = torch.zeros(len(labels))
        moved = inputs + 0.01 * keys.view(-1, 1)
        return AttackResult(adversarial=moved, goal_start=zeros, goal_end=zeros, fooled=moved[:, 0] > 0.035)

    def describe(self):
        return {"minimum_norm": True, "threat": Threat(norm="linf", eps=0.05).describe()}


def test_a_minimum_norm_attack_gives_a_curve_of_what_it_really_broke():
    class Threshold(torch.nn.Module):
        def forward(self, inputs):
            return torch.stack([0.035 - inputs[:, 0], inputs[:, 0] - 0.035], dim=1)

    found = evaluate(
        Threshold(), inputs=torch.zeros(10, 2), labels=torch.zeros(10, dtype=torch.long), indices=torch.arange(10),
        threat=Threat(norm="linf", eps=0.05), attacks={"shift": Shift()}, batch_size=4, seed=0, checks=False,
    )  # fmt: skip
    curve = exact_curves(found)["shift"]
    # samples 0 to 3 moved without being fooled: the attack failed on them
    assert curve.limit == pytest.approx(0.2)
    assert curve.accuracy[0] == 1.0
    assert curve.accuracy[-1] == 0.4
    assert curve.eps50 == pytest.approx(0.08, abs=1e-6)
    stored = to_result(found)["curves"]["shift"]
    assert stored["auc"] == pytest.approx((4 * 0.2 + sum(i / 100 for i in range(4, 10))) / 10 / 0.2, abs=1e-6)
    assert exact_curves(found, limit=0.07)["shift"].eps50 is None
