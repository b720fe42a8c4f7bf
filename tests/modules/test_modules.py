"""The modules and callbacks by themselves; whole trainings are in tests/stages."""

import functools
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from kdrobust.attacks import AttackCallback, GradientAttack, Threat
from kdrobust.data import Batch
from kdrobust.losses import Objective
from kdrobust.modules import CollapseWarning, DistillationModule, RobustValidation, TeacherModule, multistep
from kdrobust.modules.progress import duration

PAYLOAD = {"spec": {"classes": 3}}
RSLAD = {
    "temperature": 1.0,
    "terms": {
        "adversarial": {"loss": "soft_target", "student": "adversarial", "teacher": "clean", "weight": 0.75},
        "clean": {"loss": "soft_target", "student": "clean", "teacher": "clean", "weight": 0.25},
    },
}
AT = {"terms": {"adversarial": {"loss": "cross_entropy", "student": "adversarial"}}}


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def batches(count=3, size=8):
    generator = torch.Generator().manual_seed(1)
    made = []
    for place in range(count):
        inputs = torch.rand(size, 1, 4, 4, generator=generator)
        labels = torch.randint(3, (size,), generator=generator)
        made.append(Batch(inputs=inputs, labels=labels, indices=torch.arange(size) + place * size))
    return DataLoader(made, batch_size=None, collate_fn=lambda batch: Batch(**vars(batch)))


def make(kind=DistillationModule, method=RSLAD, teachers=None, **changes):
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    return kind(
        model=network(0), objective=Objective.from_method(method), optimizer=optimizer, payload=PAYLOAD,
        teachers=teachers or {}, **changes,
    )  # fmt: skip


def attack(goal="cross_entropy"):
    return GradientAttack(threat=Threat(norm="linf", eps=0.1), goal=goal, steps=2, step_size=0.05, start="normal")


def fit(module, epochs=1, goal="kl_to_teacher", extra=()):
    callbacks = [AttackCallback(attack=attack(goal)), RobustValidation(attack=attack()), *extra]
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=callbacks, logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, inference_mode=False,
    )  # fmt: skip
    trainer.fit(module, batches(), batches(2))
    return trainer


def test_every_term_and_metric_is_logged_by_its_name():
    trainer = fit(make(teachers={"teacher": network(9)}))
    logged = trainer.callback_metrics
    expected = {"train/loss", "train/terms/adversarial", "train/weighted/clean", "train/accuracy"}
    expected |= {"train/robust_accuracy", "val/accuracy", "val/robust_accuracy", "val/agreement", "val/transferability"}
    assert expected <= set(logged)
    total = logged["train/weighted/adversarial"] + logged["train/weighted/clean"]
    assert float(logged["train/loss"]) == pytest.approx(float(total), rel=1e-5)


def test_a_teacher_is_frozen_in_eval_mode_and_in_no_checkpoint():
    teacher = network(9).train()
    module = make(teachers={"teacher": teacher})
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    fit(module, epochs=2)
    assert not teacher.training
    assert all(not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(name.startswith("model.") for name in module.state_dict())
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint == {"kdrobust": PAYLOAD}


def test_training_moves_every_parameter_and_the_attack_leaves_no_gradient_behind():
    module = make(TeacherModule, AT)
    before = {name: value.clone() for name, value in module.named_parameters()}
    fit(module, goal="cross_entropy")
    assert all(not torch.equal(before[name], value) for name, value in module.named_parameters())


def test_an_attack_in_validation_leaves_batch_norm_alone():
    module = make(TeacherModule, AT)
    trainer = fit(module, goal="cross_entropy")
    before = module.model[2].running_mean.clone()
    trainer.validate(module, batches(2), verbose=False)
    assert torch.equal(before, module.model[2].running_mean)


def test_no_attack_is_run_for_a_method_that_does_not_look_at_one():
    standard = {"terms": {"prediction": {"loss": "cross_entropy", "student": "clean"}}}
    callback = AttackCallback(attack=attack())
    batch = next(iter(batches()))
    callback.on_train_batch_start(SimpleNamespace(current_epoch=0), make(method=standard), batch, 0)
    assert batch.adversarial is None


def test_multistep_is_said_in_shares():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert dict(multistep(optimizer, epochs=200).milestones) == {100: 1, 150: 1}
    paper = multistep(optimizer, epochs=300, at=[215 / 300, 260 / 300, 285 / 300])
    assert sorted(paper.milestones) == [215, 260, 285]
    with pytest.raises(ValueError, match="shares"):
        multistep(optimizer, epochs=10, at=[1.5])


def validate(callback, accuracy, epoch=5):
    trainer = SimpleNamespace(
        callback_metrics={"val/accuracy": torch.tensor(accuracy)},
        sanity_checking=False,
        current_epoch=epoch,
        max_epochs=10,
        datamodule=SimpleNamespace(split=lambda name: SimpleNamespace(labels=range(100))),
    )
    callback.on_validation_end(trainer, SimpleNamespace(payload={"spec": {"classes": 10}}))


def test_collapse_is_named_once_and_only_when_it_lasts():
    callback = CollapseWarning(patience=2)
    for accuracy in (0.1, 0.9, 0.1):
        validate(callback, accuracy)
    assert callback.messages == []
    validate(callback, 0.11)
    validate(callback, 0.1)
    assert len(callback.messages) == 1
    assert "warmup" in callback.messages[0]
    resumed = CollapseWarning(patience=2)
    resumed.load_state_dict(callback.state_dict())
    validate(resumed, 0.1)
    assert resumed.messages == callback.messages


def test_chance_in_the_first_epochs_is_no_news():
    callback = CollapseWarning(patience=1, begin=0.5)
    validate(callback, 0.1, epoch=0)
    assert callback.messages == []


def test_durations():
    assert [duration(x) for x in (5, 75, 3700)] == ["0:05", "1:15", "1:01:40"]


def test_teachers_answer_a_training_batch_in_the_form_asked_for_and_validation_exactly():
    teacher = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).eval().requires_grad_(False)
    module = make(teachers={"teacher": teacher}, teacher_precision="bf16")
    (batch,) = batches(1)
    exact = teacher(batch.inputs)
    assert torch.equal(module.eval().views(Batch(**vars(batch))).logits("teacher", "clean"), exact)
    batch.outputs = {}
    half = module.train().views(batch).logits("teacher", "clean")
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.02)
