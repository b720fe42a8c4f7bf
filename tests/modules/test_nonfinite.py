"""A NaN in the midst of a training, and what each policy makes of it."""

import functools
import logging

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kdrobust.data import Batch
from kdrobust.losses import Objective
from kdrobust.modules import NonFinite, TeacherModule, TrainingError
from tests.modules.test_modules import PAYLOAD, network

PLAIN = {"terms": {"prediction": {"loss": "cross_entropy", "student": "clean"}}}


def batches(broken=(), left_out=()):
    generator = torch.Generator().manual_seed(1)
    made = []
    for place in range(4):
        inputs = torch.rand(8, 1, 4, 4, generator=generator)
        labels = torch.randint(3, (8,), generator=generator)
        if place in broken:
            inputs[0, 0, 0, 0] = torch.nan
        if place not in left_out:
            made.append(Batch(inputs=inputs, labels=labels, indices=torch.arange(8)))
    return DataLoader(made, batch_size=None, collate_fn=lambda batch: Batch(**vars(batch)))


class Gradient(pl.Callback):
    """Spoils a gradient and leaves the loss as it is."""

    def __init__(self, at):
        self.at = at

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.at:
            pl_module.model[1].weight.grad[0, 0] = torch.inf


def fit(data, *callbacks, epochs=1, **settings):
    optimizer = functools.partial(torch.optim.Adam, lr=0.01)
    module = TeacherModule(
        model=network(0), objective=Objective.from_method(PLAIN), optimizer=optimizer, payload=PAYLOAD
    )
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **settings,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, {key: value.clone() for key, value in module.state_dict().items()}


def same_training(one, other):
    (first, mine), (second, theirs) = one, other
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert str(first.optimizers[0].state_dict()) == str(second.optimizers[0].state_dict())


@pytest.mark.parametrize("callbacks", [[], [NonFinite()]])
def test_stop_names_step_and_term(callbacks):
    with pytest.raises(
        TrainingError, match=r"not finite at step 2 \(terms: prediction\).*callbacks.nonfinite.policy=skip"
    ):
        fit(batches(broken=[2]), *callbacks)


def test_skip_trains_as_if_the_batch_were_not_there(caplog):
    guard = NonFinite(policy="skip")
    with caplog.at_level(logging.WARNING):
        skipped = fit(batches(broken=[1]), guard)
    same_training(skipped, fit(batches(left_out=[1])))
    assert float(skipped[0].callback_metrics["train/loss"]) == float(
        fit(batches(left_out=[1]))[0].callback_metrics["train/loss"]
    )
    (message,) = guard.messages
    assert message == ("loss not finite at step 1 (terms: prediction): its update was left out (1 of at most 10)")
    assert message in caplog.text


def test_skip_looks_at_gradients_too():
    guard = NonFinite(policy="skip")
    same_training(fit(batches(), Gradient(2), guard), fit(batches(left_out=[2])))
    assert "terms: their gradient" in guard.messages[0]


def test_skip_with_collected_gradients_leaves_the_whole_step_out():
    spoilt = fit(batches(broken=[1]), NonFinite(policy="skip"), accumulate_grad_batches=2)
    same_training(spoilt, fit(batches(left_out=[0, 1]), accumulate_grad_batches=2))


def test_restore_goes_back_to_the_begin_of_the_epoch():
    class Begin(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            self.weights = {key: value.clone() for key, value in pl_module.state_dict().items()}

    guard, begin = NonFinite(policy="restore"), Begin()
    trainer, weights = fit(batches(), guard, begin, Gradient(6), epochs=2)
    # step 6 is the second epoch's third: only its fourth batch counts
    expected = fit(batches(), epochs=1)
    optimizer = expected[0].optimizers[0]
    model = expected[0].lightning_module.model.train()
    assert all(torch.equal(begin.weights[name], value) for name, value in expected[1].items())
    last = list(batches())[3]
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(last.inputs), last.labels).backward()
    optimizer.step()
    assert all(torch.equal(weights[f"model.{name}"], value) for name, value in model.state_dict().items())
    assert str(trainer.optimizers[0].state_dict()) == str(optimizer.state_dict())
    assert "back to the weights that epoch 2 began with" in guard.messages[0]


def test_a_training_that_only_fails_is_ended():
    guard = NonFinite(policy="skip", at_most=2)
    with pytest.raises(TrainingError, match=r"at step 3 \(terms: prediction\), the 3. such step"):
        fit(batches(broken=[0, 1, 3]), guard)


def test_the_count_survives_a_resume():
    first = NonFinite(policy="skip", at_most=2)
    fit(batches(broken=[0, 1]), first)
    second = NonFinite(policy="skip", at_most=2)
    second.load_state_dict(first.state_dict())
    assert second.messages == first.messages
    with pytest.raises(TrainingError, match=r"the 3\. such step"):
        fit(batches(broken=[0]), second)


@pytest.mark.parametrize(("given", "told"), [({"policy": "hope"}, "policy"), ({"at_most": 0}, "at_most")])
def test_values_outside_their_range(given, told):
    with pytest.raises(ValueError, match=told):
        NonFinite(**given)
