"""Averaged weights against a loop; whole trainings are in tests/stages and tests/distributed."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdrobust.attacks import NoAttack
from kdrobust.data import Batch
from kdrobust.models import read_checkpoint
from kdrobust.modules import AveragedWeights

PAYLOAD = {"format": 1, "spec": {"shape": [2], "classes": 3}, "model": {"network": {}, "normalize": False}}


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


class Loader:
    """Training data of one epoch: three batches, unaugmented."""

    split = None

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            yield Batch(torch.randn(8, 4, generator=generator) + 2, torch.zeros(8, dtype=torch.long), torch.arange(8))

    def on_after_batch_transfer(self, batch, place):
        return batch


def setting(model, **changes):
    logged = {}
    module = SimpleNamespace(
        model=model, exact_epoch=0.0, device=torch.device("cpu"), payload=PAYLOAD, logged=logged,
        craft=lambda attack, batch, **_: -batch.inputs, log_dict=lambda values, **_: logged.update(values),
    )  # fmt: skip
    trainer = SimpleNamespace(
        max_epochs=4, num_training_batches=2, world_size=1, sanity_checking=False, current_epoch=0, datamodule=Loader(),
        is_global_zero=True, precision_plugin=SimpleNamespace(forward_context=nullcontext),
    )  # fmt: skip
    for key, value in changes.items():
        setattr(trainer if hasattr(trainer, key) else module, key, value)
    return trainer, module


def average(tmp_path, **options):
    return AveragedWeights(attack=NoAttack(), path=tmp_path / "averaged.ckpt", **options)


def walk(callback, model, steps=6, per_epoch=2, begin=0):
    """Weights that change at every step; returns what they were."""
    trainer, module = setting(model)
    callback.on_fit_start(trainer, module)
    history = []
    for step in range(begin, begin + steps):
        with torch.no_grad():
            for value in model.state_dict().values():
                if value.is_floating_point():
                    value += 0.1 * (step + 1)
                else:
                    value += 1
        module.exact_epoch = step / per_epoch
        callback.on_train_batch_end(trainer, module, None, None, step % per_epoch)
        history.append(copy.deepcopy(model.state_dict()))
    return history


def test_ema_is_a_plain_mean_first_and_then_forgets(tmp_path):
    callback = average(tmp_path, mode="ema", decay=0.6)
    history = walk(callback, network())
    expected = history[0]["0.weight"]
    for count, state in enumerate(history[1:], start=2):
        share = max(0.4, 1 / count)
        expected = (1 - share) * expected + share * state["0.weight"]
    torch.testing.assert_close(callback.averaged.state_dict()["0.weight"], expected)
    assert callback.count == 6
    # counters are taken over, statistics averaged
    assert int(callback.averaged[1].num_batches_tracked) == 6
    assert not torch.equal(callback.averaged[1].running_mean, history[-1]["1.running_mean"])
    assert not any(parameter.requires_grad for parameter in callback.averaged.parameters())


def test_swa_is_the_mean_of_the_epochs_ends_from_begin_on(tmp_path):
    callback = average(tmp_path, mode="swa", begin=0.25)
    history = walk(callback, network(), steps=8)
    expected = torch.stack([history[place]["0.weight"] for place in (3, 5, 7)]).mean(0)
    torch.testing.assert_close(callback.averaged.state_dict()["0.weight"], expected)
    assert callback.count == 3


def test_swa_estimates_batch_norm_anew_on_the_training_inputs(tmp_path):
    callback = average(tmp_path, mode="swa")
    state = torch.random.get_rng_state()
    walk(callback, network(), steps=2)
    seen = torch.cat([batch.inputs for batch in Loader().train_dataloader()])
    hidden = callback.averaged[0](seen)
    torch.testing.assert_close(callback.averaged[1].running_mean, hidden.mean(0))
    parts = torch.stack([part.var(0) for part in hidden.chunk(3)])
    torch.testing.assert_close(callback.averaged[1].running_var, parts.mean(0))
    assert callback.averaged[1].momentum == 0.1
    assert not callback.averaged.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_taken_up_again_it_goes_on(tmp_path):
    model = network()
    whole = average(tmp_path, mode="ema", decay=0.5)
    walk(whole, copy.deepcopy(model), steps=5)
    first = average(tmp_path, mode="ema", decay=0.5)
    walk(first, model, steps=2)
    second = average(tmp_path, mode="ema", decay=0.5)
    second.load_state_dict(first.state_dict())
    walk(second, model, steps=3, begin=2)
    for name, value in whole.state_dict()["weights"].items():
        assert torch.equal(second.state_dict()["weights"][name], value), name
    assert second.count == 5


def test_nothing_is_measured_before_anything_is_averaged(tmp_path):
    callback = average(tmp_path)
    trainer, module = setting(network())
    callback.on_fit_start(trainer, module)
    callback.on_validation_start(trainer, module)
    callback.on_validation_epoch_end(trainer, module)
    assert module.logged == {}
    assert callback.summary() is None
    assert callback.state_dict()["count"] == 0


def test_both_accuracies_are_measured_and_the_best_epoch_is_kept(tmp_path):
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    callback = average(tmp_path, mode="ema")
    trainer, module = setting(model)
    callback.on_fit_start(trainer, module)
    callback.on_train_batch_end(trainer, module, None, None, 0)
    labels = torch.tensor([0, 0, 0, 1])
    # the attack turns the inputs around: who is right on one side is wrong on the other, but for a tie
    inputs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    given = Batch(inputs=inputs, labels=labels, indices=torch.arange(4))

    def validate(epoch):
        trainer.current_epoch = epoch
        callback.on_validation_start(trainer, module)
        for _ in range(2):
            callback.on_validation_batch_end(trainer, module, None, given, 0)
        callback.on_validation_epoch_end(trainer, module)

    validate(3)
    assert module.logged == {"val/averaged/accuracy": 0.75, "val/averaged/robust_accuracy": 0.5}
    checkpoint = read_checkpoint(callback.path)
    assert checkpoint["epoch"] == 3
    assert torch.equal(checkpoint["state_dict"]["model.weight"], torch.eye(2))
    callback.path.unlink()
    validate(4)  # no better: the file stays what it was
    assert not callback.path.exists()
    summary = callback.summary()
    assert (summary["epoch"], summary["mode"], summary["decay"]) == (3, "ema", 0.999)
    assert (summary["accuracy"], summary["robust_accuracy"]) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "mean"}, "mode: expected ema or swa, got 'mean'"),
        ({"decay": 1.0}, r"decay: expected a number in \[0, 1\), got 1.0"),
        ({"begin": 1.0}, "begin: expected a share of the training"),
        ({"begin": -0.1}, "begin: expected a share of the training"),
    ],
)
def test_refusals(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        average(tmp_path, **options)
