"""Lengths, limits and monitored metrics that do not fit together: one line before anything is trained."""

import csv

import pytest
import torch
from omegaconf import OmegaConf, open_dict

from kdrobust.config import compose, instantiate, numbers
from kdrobust.errors import UsageError
from kdrobust.losses import Objective
from kdrobust.stages.training_checks import check_batches, training_problems, validated_samples
from tests.stages.conftest import TINY

#: 96 samples in four batches, 40 validation samples in three
FOUR = [*TINY, "epochs=4", "data.limit_train=96", "data.batch_size=24", "data.eval_batch_size=15"]


@pytest.fixture(scope="module")
def composed():
    lines = {"rslad": [], "pgd_at": ["method=pgd_at", "callbacks=early_stopping", "scheduler=plateau"]}
    return {name: compose("distill", [*FOUR, *more]) for name, more in lines.items()}


@pytest.fixture(scope="module")
def data(composed):
    data = instantiate(composed["rslad"].data)
    data.prepare()
    return data


def changed(cfg, **values):
    cfg = cfg.copy()
    with open_dict(cfg):
        for key, value in values.items():
            OmegaConf.update(cfg, key.replace("__", "."), value, merge=False, force_add=True)
    return cfg


def problems(cfg):
    return training_problems(cfg, Objective(numbers(cfg.method)))


def test_what_is_shipped_is_fine(composed):
    for cfg in composed.values():
        assert problems(cfg) == []


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"trainer__max_epochs": -1}, "trainer.max_epochs=-1: .*set epochs to at least 1"),
        ({"trainer__max_epochs": None}, "trainer.max_epochs=null: .*set epochs"),
        ({"trainer__max_steps": 0}, "trainer.max_steps=0: expected an integer >= 1, or -1"),
        ({"trainer__max_steps": 5, "trainer__min_epochs": 2}, "trainer.min_epochs=2: asks for more than trainer.max_steps"),
        ({"trainer__accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches=0: expected an integer >= 1"),
        ({"trainer__check_val_every_n_epoch": None}, "trainer.check_val_every_n_epoch=null: expected an integer >= 1"),
        ({"trainer__check_val_every_n_epoch": 5}, "trainer.check_val_every_n_epoch=5: .* take at most 4"),
        ({"trainer__gradient_clip_val": -1.0}, "trainer.gradient_clip_val=-1.0: expected a positive number"),
        ({"trainer__limit_val_batches": 0}, "trainer.limit_val_batches=0: .*data.limit_validation"),
        ({"trainer__limit_train_batches": 0.0}, "trainer.limit_train_batches=0.0: .*data.limit_train"),
        ({"trainer__fast_dev_run": True}, "trainer.fast_dev_run=True: .*debug=tiny"),
        ({"trainer__overfit_batches": 1}, "trainer.overfit_batches=1: .*data.limit_train"),
        ({"trainer__use_distributed_sampler": True}, "trainer.use_distributed_sampler=True: .*leave it false"),
        ({"trainer__reload_dataloaders_every_n_epochs": 1}, "trainer.reload_dataloaders_every_n_epochs=1: .*leave it 0"),
        ({"trainer__precision": "bf16-true"}, "trainer.precision=bf16-true: .*take one of 32-true, 64-true, bf16-mixed"),
        ({"trainer__precision": "16-mixed"}, "trainer.precision=16-mixed: .*take bf16-mixed"),
        ({"callbacks__attack": None}, "callbacks.attack=null: .*attack=none"),
        (
            {"callbacks__robust_validation": None},
            "callbacks.best.monitor, callbacks.early_stopping.monitor, scheduler.monitor: val/robust_accuracy is not "
            "measured, as callbacks.robust_validation is null; set callbacks.best.monitor=val/accuracy "
            r"callbacks.early_stopping.monitor=val/accuracy scheduler.monitor=val/accuracy \(there are val/accuracy\)",
        ),
        ({"callbacks__best__monitor": "val/agreement"}, "callbacks.best.monitor: val/agreement is not measured; set"),
        ({"scheduler__monitor": None}, "scheduler.monitor: a plateau of what"),
        ({"scheduler__interval": "step"}, "scheduler.interval=step: .*set epoch"),
    ],
)  # fmt: skip
def test_refused_by_the_config_alone(composed, values, line):
    found = problems(changed(composed["pgd_at"], **values))
    assert len(found) == 1
    with pytest.raises(UsageError, match=line):
        raise UsageError(found[0])


def test_a_students_teacher_makes_more_metrics(composed):
    cfg = changed(composed["rslad"], callbacks__best__monitor="val/adversarial_agreement")
    assert problems(cfg) == []
    cfg.teacher.outputs = "folder/of/stored/outputs"
    assert "val/adversarial_agreement is not measured" in problems(cfg)[0]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"limit_train_batches": 0.2}, "limit_train_batches=0.2: .*number is 4; take at least 0.25"),
        ({"limit_val_batches": 0.3}, "limit_val_batches=0.3: .*number is 3; .*data.eval_batch_size"),
        ({"val_check_interval": 3}, "val_check_interval=3: .*take 1 or 2 or 4"),
        ({"val_check_interval": 0.8}, "val_check_interval=0.8: .*take 1 or 2 or 4"),
        ({"val_check_interval": 8}, "val_check_interval=8: .*take 1 or 2 or 4"),
        ({"max_steps": 2, "accumulate_grad_batches": 2, "check_val_every_n_epoch": 2}, "max_steps=2: .*take at least 3"),
        ({"val_check_interval": 2}, None),
        ({"val_check_interval": 3, "limit_train_batches": 3}, None),
        ({"max_steps": 5, "check_val_every_n_epoch": 2}, None),
    ],
)  # fmt: skip
def test_refused_by_the_number_of_batches(composed, data, values, line):
    cfg = changed(composed["rslad"], **{f"trainer__{key}": value for key, value in values.items()})
    if line is None:
        check_batches(cfg, data)
        return
    with pytest.raises(UsageError, match=f"trainer.{line}"):
        check_batches(cfg, data)


def test_how_many_samples_are_validated(composed, data):
    # three batches of 14, 13 and 13
    assert validated_samples(composed["rslad"], data) == 40
    assert validated_samples(changed(composed["rslad"], trainer__limit_val_batches=2), data) == 27
    assert validated_samples(changed(composed["rslad"], trainer__limit_val_batches=0.4), data) == 14
    two = {"trainer__devices": 2, "trainer__strategy": {"process_group_backend": "gloo"}}
    assert validated_samples(changed(composed["rslad"], **two), data) == 40


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["+trainer.val_check_interval=3"], "trainer.val_check_interval=3:"),
        (["callbacks.robust_validation=null"], "callbacks.best.monitor: val/robust_accuracy is not measured"),
    ],
)
def test_from_the_command_line(workplace, capsys, lines, said):
    workplace.run("distill", *FOUR, *lines, code=2)
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith(said)
    assert "\n" not in complaint
    assert not list(workplace.folder.glob("outputs/teacher/*"))


def test_a_plateau_of_validations_every_second_epoch(workplace, trained):
    teacher = [f"teacher.checkpoint={trained}/best.ckpt", "teacher.outputs=null"]
    plateau = ["scheduler=plateau", "scheduler.factory.patience=0", "+scheduler.factory.threshold=100"]
    every = ["+trainer.check_val_every_n_epoch=2", "trainer.limit_val_batches=2", "callbacks=early_stopping"]
    workplace.run("distill", *FOUR, *teacher, *plateau, *every)
    rows = list(csv.DictReader((workplace.only("outputs/distill/*") / "metrics.csv").open()))
    assert [bool(row["val/robust_accuracy"]) for row in rows] == [False, True, False, True]
    kept = torch.load(workplace.only("outputs/distill/*") / "last.ckpt", weights_only=True)["lr_schedulers"]
    # the first validation is the best so far, the second no better by a factor of a hundred
    assert kept[0]["last_epoch"] == 2
    assert kept[0]["_last_lr"] == pytest.approx([float(rows[0]["lr-Adam"]) / 2])
    assert workplace.result("outputs/distill/*")["validation"]["samples"] == 27


def test_double_precision_to_its_end(workplace):
    workplace.run("distill", *FOUR, "epochs=1", "method=pgd_at", "model@student=mlp", "trainer.precision=64-true")
    checkpoint = workplace.only("outputs/distill/*") / "best.ckpt"
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {value.dtype for key, value in weights.items() if key.endswith("weight")} == {torch.float64}
    workplace.run("evaluate", f"checkpoint={checkpoint}", "evaluation=fast", "evaluation.num_samples=10")
