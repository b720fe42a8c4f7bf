"""A training takes the steps and validations that its settings say, or says that it did not."""

import csv
import json

import pytest
import torch

from kdrobust.modules import resume
from kdrobust.stages import training
from tests.stages.conftest import TINY

#: four batches an epoch
FOUR = [*TINY, "epochs=3", "data.batch_size=32", "model@student=mlp"]


@pytest.mark.parametrize(
    ("lines", "steps", "epochs"),
    [
        (["+trainer.max_steps=6"], 6, [0, 1]),
        (["+trainer.max_steps=40", "trainer.accumulate_grad_batches=3"], 6, [0, 1, 2]),
        # an epoch that max_steps cuts is validated
        (["+trainer.max_steps=3", "callbacks=early_stopping"], 3, [0]),
    ],
)
def test_steps_are_as_many_as_said(workplace, trained, lines, steps, epochs):
    teacher = [f"teacher.checkpoint={trained}/best.ckpt", "teacher.outputs=null"]
    workplace.run("distill", *FOUR, *teacher, *lines)
    folder = workplace.only("outputs/distill/*")
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == steps
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == epochs
    assert all(row["val/robust_accuracy"] and row["train/loss"] for row in rows)
    assert json.loads((folder / "result.json").read_text())["validation"]["epoch"] in epochs


def test_a_training_that_skips_epochs_fails(workplace, capsys, monkeypatch):
    # what Lightning's own setter makes of it
    monkeypatch.setattr(resume, "_end_restart", lambda trainer: setattr(trainer.fit_loop, "restarting", False))
    workplace.run("distill", *FOUR, "method=pgd_at", "+trainer.max_steps=9", code=1)
    said = capsys.readouterr().err
    assert "epoch 2: 0 optimiser steps where 4 were due" in said
    assert "Traceback" not in said


def test_a_training_that_is_not_validated_fails(workplace, capsys, monkeypatch):
    class Forgetful(training.StepCount):
        def on_validation_end(self, trainer, pl_module):
            pass

    monkeypatch.setattr(training, "StepCount", Forgetful)
    workplace.run("distill", *FOUR, "method=pgd_at", code=1)
    assert "epoch 1: 0 validations where 1 were due" in capsys.readouterr().err
