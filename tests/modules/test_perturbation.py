"""Adversarial weight perturbation against its formula, and the traces it must not leave."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from kdrobust.modules import WeightPerturbation
from tests.methods import attacked, batch, learner, loss_of


def setting(name="trades", **options):
    module, attack = learner(name)
    given = attacked(module, attack, batch())
    trainer = SimpleNamespace(
        max_epochs=4, global_step=3, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    return WeightPerturbation(**options), trainer, module, given


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_weights_move_up_the_loss_by_their_own_length_and_back_to_the_bit():
    callback, trainer, module, given = setting(gamma=0.01)
    before = snapshot(module)
    loss = loss_of(module, given, 0.0).loss
    names = [name for name, _ in module.model.named_parameters()]
    found = torch.autograd.grad(loss, list(module.model.parameters()))
    gradients = dict(zip(names, found, strict=True))
    for name, value in module.state_dict().items():
        value.copy_(before[name])
    callback.on_train_batch_start(trainer, module, given, 0)
    for name, parameter in module.model.named_parameters():
        moved = parameter.detach() - before[f"model.{name}"]
        if parameter.dim() < 2:
            assert float(moved.abs().max()) == 0.0  # biases and normalisation stay
            continue
        weight, gradient = before[f"model.{name}"], gradients[name]
        torch.testing.assert_close(moved, 0.01 * weight.norm() * gradient / gradient.norm(), rtol=1e-4, atol=1e-6)
    after = loss_of(module, given, 0.0).loss
    assert float(after.detach()) > float(loss.detach())
    callback.on_after_backward(trainer, module)
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter, before[f"model.{name}"])


@pytest.mark.parametrize("name", ["trades", "mtard", "fair_rslad", "absld", "peeraid"])
def test_the_trial_leaves_no_trace(name):
    callback, trainer, module, given = setting(name)
    before, numbers = snapshot(module), torch.random.get_rng_state()
    callback.on_train_batch_start(trainer, module, given, 0)
    callback.on_after_backward(trainer, module)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training
    assert module.objective.state.training


def test_an_interrupted_step_leaves_no_moved_weights():
    callback, trainer, module, given = setting()
    before = snapshot(module)
    callback.on_train_batch_start(trainer, module, given, 0)
    assert not torch.equal(module.model[0].weight, before["model.0.weight"])
    callback.on_exception(trainer, module, KeyboardInterrupt())
    assert torch.equal(module.model[0].weight, before["model.0.weight"])


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"begin": 0.5}])
def test_nothing_moves_before_its_time(options):
    callback, trainer, module, given = setting(**options)
    before = snapshot(module)
    callback.on_train_batch_start(trainer, module, given, 0)
    assert torch.equal(module.model[0].weight, before["model.0.weight"])


def test_it_stands_after_the_attack():
    callback, trainer, module, given = setting()
    given.adversarial = None
    with pytest.raises(RuntimeError, match=r"callbacks\.attack has to stand first"):
        callback.on_train_batch_start(trainer, module, given, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"gamma": -1.0}, "gamma: must not be negative, got -1.0"), ({"begin": 1.0}, "begin: expected a share")],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        WeightPerturbation(**options)
