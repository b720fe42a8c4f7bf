"""The callback that crafts training batches."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdrobust.attacks import AttackCallback, GradientAttack, NoAttack, Threat
from kdrobust.data import Batch


def test_scale():
    callback = AttackCallback(attack=NoAttack(), warmup=0.5)
    assert [callback.scale(epoch, 10) for epoch in (0.0, 1.0, 2.5, 5.0, 9.0)] == [0.0, 0.2, 0.5, 1.0, 1.0]
    assert AttackCallback(attack=NoAttack()).scale(0.0, 10) == 1.0


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 2.0, float("nan")])
def test_warmup_range(warmup):
    with pytest.raises(ValueError, match="warmup"):
        AttackCallback(attack=NoAttack(), warmup=warmup)


@pytest.mark.parametrize("needed", [True, False])
def test_crafts_only_if_looked_at_and_validates_once(needed):
    calls = []

    def craft(attack, batch, **options):
        calls.append(options)
        return "x'"

    module = SimpleNamespace(
        objective=SimpleNamespace(needs_attack=needed, needs_survival=False), exact_epoch=1.0, craft=craft
    )
    trainer = SimpleNamespace(
        max_epochs=10, current_epoch=1, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    callback, batch = AttackCallback(attack=NoAttack(), warmup=0.2), SimpleNamespace(adversarial=None)
    for index in range(2):
        callback.on_train_batch_start(trainer, module, batch, index)
    assert batch.adversarial == ("x'" if needed else None)
    assert [(call["scale"], call["validate"]) for call in calls] == ([(0.5, True), (0.5, False)] if needed else [])


def test_counts_survived_steps_only_if_a_weight_asks():
    module = SimpleNamespace(
        objective=SimpleNamespace(needs_attack=True, needs_survival=True), exact_epoch=1.0, craft=lambda *_, **__: "x'"
    )
    trainer = SimpleNamespace(
        max_epochs=10, current_epoch=1, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    batch = Batch(inputs=torch.zeros(3, 2), labels=torch.zeros(3).long(), indices=torch.arange(3))
    AttackCallback(attack=NoAttack()).on_train_batch_start(trainer, module, batch, 0)
    assert batch.survived.tolist() == [0.0, 0.0, 0.0]


def test_says_what_precision_came_to():
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=1, precision="fp32")
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)).eval()
    module = SimpleNamespace(
        model=model,
        objective=SimpleNamespace(needs_attack=True, needs_survival=False),
        exact_epoch=1.0,
        craft=lambda attack, batch, **_: attack(model, batch.inputs, batch.labels),
    )
    trainer = SimpleNamespace(
        max_epochs=10, current_epoch=1, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    callback = AttackCallback(attack=attack)
    assert callback.describe() == attack.describe()
    batch = Batch(inputs=torch.rand(3, 1, 4, 4), labels=torch.zeros(3).long(), indices=torch.arange(3))
    callback.on_train_batch_start(trainer, module, batch, 0)
    assert callback.describe() == {**attack.describe(), "climbed": "fp32"}
