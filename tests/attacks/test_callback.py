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


def pgd(steps=10, step_size=0.025):
    return GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=steps, step_size=step_size)


def test_steps_grow_over_their_share_of_the_training_and_then_are_the_attack_s_own():
    own = pgd()
    callback = AttackCallback(attack=own, growth=0.5, first_steps=2)
    epochs = [0.0, 0.7, 2.5, 4.9, 5.0, 9.0]
    assert [callback.attack_at(epoch, 10).steps for epoch in epochs] == [2, 3, 6, 9, 10, 10]
    assert callback.attack_at(5.0, 10) is own
    assert (own.steps, own.step_size) == (10, 0.025)
    assert AttackCallback(attack=own).attack_at(0.0, 10) is own


def test_few_steps_reach_as_far_as_many_but_are_no_longer_than_one_step_should_be():
    callback = AttackCallback(attack=pgd(), growth=1.0, first_steps=1)
    lengths = {callback.attack_at(epoch, 9).steps: callback.attack_at(epoch, 9).step_size for epoch in range(9)}
    assert lengths[1] == pytest.approx(0.125)
    assert lengths[4] == pytest.approx(0.25 / 4)
    assert all(size <= 0.125 for size in lengths.values())
    # a long step of the user's own is not cut
    assert AttackCallback(attack=pgd(3, 0.2), growth=1.0, first_steps=1).attack_at(0.0, 9).step_size == 0.2


@pytest.mark.parametrize("attack", [NoAttack(), pgd(steps=2), pgd(steps=1)])
def test_nothing_grows_where_there_is_no_room(attack):
    assert AttackCallback(attack=attack, growth=0.5, first_steps=2).attack_at(0.0, 10) is attack


@pytest.mark.parametrize("options", [{"growth": -0.1}, {"growth": 1.1}, {"growth": float("nan")}, {"first_steps": 0}])
def test_growth_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AttackCallback(attack=NoAttack(), **options)


@pytest.mark.parametrize(("counted", "steps"), [(False, 2), (True, 10)])
def test_the_grown_attack_crafts_unless_its_steps_are_counted(counted, steps):
    used = []
    module = SimpleNamespace(
        model=nn.Flatten(),
        objective=SimpleNamespace(needs_attack=True, needs_survival=counted),
        exact_epoch=0.0,
        craft=lambda attack, *_, **__: used.append(attack),
    )
    trainer = SimpleNamespace(
        max_epochs=10, current_epoch=0, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    batch = Batch(inputs=torch.zeros(3, 2), labels=torch.zeros(3).long(), indices=torch.arange(3))
    callback = AttackCallback(attack=pgd(), growth=0.5)
    callback.on_train_batch_start(trainer, module, batch, 0)
    assert [attack.steps for attack in used] == [steps]
    told = callback.describe()
    assert (told["steps"], told["warmup"], told["growth"], told["first_steps"]) == (10, 0.0, 0.5, 2)


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
    before = callback.describe()
    assert before.items() >= attack.describe().items()
    batch = Batch(inputs=torch.rand(3, 1, 4, 4), labels=torch.zeros(3).long(), indices=torch.arange(3))
    callback.on_train_batch_start(trainer, module, batch, 0)
    assert callback.describe() == {**before, "climbed": "fp32"}
    resumed = AttackCallback(attack=attack)
    resumed.load_state_dict(callback.state_dict())
    assert resumed.describe() == callback.describe()
