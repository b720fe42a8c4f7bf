"""A model that writes into its input is found out at once, by every attack, and the caller's samples stay as they are."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, NoAttack, Threat, TransferAttack
from kdrobust.errors import AttackError
from kdrobust.evaluation import evaluate
from tests.attacks.zoo import EVERY, attacks_of

X = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 5


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))

    def forward(self, inputs):
        return self.head(inputs.mul_(2))


def inplace_relu():
    return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 5))


@pytest.mark.parametrize("make", [Doubling, inplace_relu])
@pytest.mark.parametrize(("norm", "name"), EVERY)
def test_every_attack_refuses_it(norm, name, make):
    inputs = X.clone()
    with pytest.raises(AttackError, match=r"in place.*x = x\.clone\(\)"):
        attacks_of(norm)[name](make(), inputs, Y)
    assert torch.equal(inputs, X)


def test_so_do_those_that_climb_nothing():
    inputs = X.clone()
    threat = Threat(norm="linf", eps=0.1)
    source = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    transfer = TransferAttack(attack=GradientAttack(threat=threat, steps=1), source=source)
    for attack in (NoAttack(), transfer):
        with pytest.raises(AttackError, match="in place"):
            attack.run(Doubling(), inputs, Y)
    assert torch.equal(inputs, X)


def test_an_evaluation_refuses_it():
    threat = Threat(norm="linf", eps=0.1)
    attacks = {"pgd": GradientAttack(threat=threat, steps=1)}
    samples = {"inputs": X, "labels": Y, "indices": torch.arange(6)}
    with pytest.raises(AttackError, match="in place"):
        evaluate(inplace_relu(), **samples, threat=threat, attacks=attacks, batch_size=6, seed=0, checks=False)


def test_a_model_that_copies_first_is_attacked():
    model = nn.Sequential(nn.Identity(), Doubling())
    model.forward = lambda inputs: model[1](inputs.clone())
    found = attacks_of("linf")["square"].run(model, X, Y)
    assert float((found.adversarial - X).abs().max()) <= 0.05 + 1e-6
