"""Examples made on one model, tried on another."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat, TransferAttack
from kdrobust.errors import AttackError

THREAT = Threat(norm="linf", eps=0.2)


def linear(seed, classes=4):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def samples(n=24):
    inputs = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    return inputs, torch.arange(n) % 4


def attack():
    return GradientAttack(threat=THREAT, goal="cross_entropy", steps=5, step_size=0.1, start="uniform", momentum=1.0)


def test_from_itself_it_is_the_white_box_attack():
    model = linear(0)
    inputs, labels = samples()
    white = attack().run(model, inputs, labels, keys=torch.arange(24), seed=5)
    same = TransferAttack(source=model, attack=attack()).run(model, inputs, labels, keys=torch.arange(24), seed=5)
    assert torch.equal(same.adversarial, white.adversarial)
    assert torch.equal(same.fooled, white.fooled)
    assert torch.equal(same.extra["fooled_source"].bool(), white.fooled)


def test_from_another_it_asks_the_model_only_for_answers():
    model, source = linear(0), linear(1)
    inputs, labels = samples()
    asked = []
    model.register_forward_hook(lambda *_: asked.append(torch.is_grad_enabled()))
    result = TransferAttack(source=source, attack=attack()).run(model, inputs, labels, seed=5)
    assert asked == [False, False]
    with torch.no_grad():
        assert torch.equal(result.fooled, model(result.adversarial).argmax(dim=1) != labels)
        white = attack().run(model, inputs, labels, seed=5)
    assert result.fooled.sum() <= white.fooled.sum()
    assert float((result.adversarial - inputs).abs().max()) <= 0.2 + 1e-6
    assert not any(parameter.grad is not None for net in (model, source) for parameter in net.parameters())


def test_the_description_names_the_source():
    described = TransferAttack(source=linear(1), attack=attack(), name="a", origin={"sha256": "0" * 64}).describe()
    assert described["source"] == {"name": "a", "sha256": "0" * 64}
    assert described["black_box"] is True
    assert described["threat"]["eps"] == 0.2
    assert described["made_by"]["momentum"] == 1.0


def test_a_model_of_other_classes_is_refused():
    inputs, labels = samples()
    with pytest.raises(AttackError, match="classes"):
        TransferAttack(source=linear(1), attack=attack()).run(linear(0, classes=3), inputs, labels)
