"""A radius relative to each sample's own norm: signal-to-noise ratios."""

import math

import pytest
import torch
from torch import nn

from kdrobust.attacks import APGD, GradientAttack, Threat
from kdrobust.errors import UsageError

SNR_20 = Threat(norm="l2", eps=0.1, bounds=(-1, 1), relative=True)


def signals(count=6, length=50):
    """Signals of very different loudness."""
    draw = torch.randn(count, 1, length, generator=torch.Generator().manual_seed(0))
    return 0.2 * draw * torch.logspace(-2, 0, count).view(-1, 1, 1)


def decibels(moved, inputs):
    return 20 * torch.log10(inputs.flatten(1).norm(dim=1) / (moved - inputs).flatten(1).norm(dim=1))


def linear():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(50, 4))


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_every_sample_is_moved_in_proportion_to_its_loudness(start):
    inputs, model = signals(), linear()
    labels = model(inputs).argmax(dim=1)
    attack = GradientAttack(threat=SNR_20, steps=20, step_size=0.025, start=start)
    moved = attack(model, inputs, labels)
    # a linear model is fought best at the very edge of the ball
    assert decibels(moved, inputs).tolist() == pytest.approx([20.0] * 6, abs=1e-3)
    assert SNR_20.distance(moved, inputs).tolist() == pytest.approx([0.1] * 6, rel=1e-4)


def test_it_is_the_plain_attack_at_each_sample_s_own_radius():
    inputs, model = signals(), linear()
    labels = model(inputs).argmax(dim=1)
    settings = {"steps": 7, "start": "uniform", "keep": "best"}
    whole = GradientAttack(threat=SNR_20, step_size=0.03, **settings).run(model, inputs, labels).adversarial
    for row in range(6):
        length = float(inputs[row].norm())
        alone = GradientAttack(
            threat=Threat(norm="l2", eps=0.1 * length, bounds=(-1, 1)), step_size=0.03 * length, **settings
        )
        found = alone.run(model, inputs[row : row + 1], labels[row : row + 1], keys=torch.tensor([row])).adversarial
        assert torch.allclose(found, whole[row : row + 1], atol=1e-6)


def test_warm_up_scales_it_and_restarts_keep_it():
    inputs, model = signals(), linear()
    labels = model(inputs).argmax(dim=1)
    attack = GradientAttack(threat=SNR_20, steps=10, step_size=0.025, restarts=3, keep="best", start="uniform")
    assert bool((decibels(attack(model, inputs, labels), inputs) > 20.0 - 1e-3).all())
    half = attack(model, inputs, labels, scale=0.5)
    assert decibels(half, inputs).tolist() == pytest.approx([20.0 - 20 * math.log10(0.5)] * 6, abs=1e-3)


def test_a_silent_sample_cannot_be_moved():
    silent = torch.zeros(2, 1, 50)
    moved = GradientAttack(threat=SNR_20, steps=3, step_size=0.1, start="uniform")(
        linear(), silent, torch.tensor([0, 1])
    )
    assert torch.equal(moved, silent)
    assert SNR_20.distance(moved, silent).tolist() == [0.0, 0.0]


def test_what_cannot_be_relative_says_so():
    with pytest.raises(UsageError, match=r"threat\.relative=true: .* bounded by l2, not linf"):
        Threat(norm="linf", eps=0.1, relative=True)
    inputs, model = signals(), linear()
    with pytest.raises(UsageError, match=r"use attacks of the kind kdrobust\.attacks\.GradientAttack"):
        APGD(threat=SNR_20, steps=3).run(model, inputs, model(inputs).argmax(dim=1))


def test_only_a_relative_threat_describes_itself_so():
    assert SNR_20.describe() == {"norm": "l2", "eps": 0.1, "bounds": [-1.0, 1.0], "relative": True}
    assert Threat(**SNR_20.describe()) == SNR_20
    assert "relative" not in Threat(norm="l2", eps=0.1).describe()
