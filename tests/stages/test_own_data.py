"""A run's checkpoint is measured, exported and asked for outputs on the run's own data, unless others are named."""

import json

import numpy as np
import pytest

from kdrobust.config import compose
from kdrobust.config.own_data import adopt_data
from tests.stages.conftest import IMPLIED, TINY, Workplace

QUICK = ["evaluation.checks=false", "evaluation.latency=false"]
OWN = ["data=npz", "data.source.path=mine.npz", "data.name=mine"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A student of three classes of 3 x 10 x 7 images, its teacher implied."""
    place = Workplace(tmp_path_factory.mktemp("own"))
    draw = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": value
        for split, size in (("train", 90), ("test", 45))
        for kind, value in (
            ("x", draw.integers(0, 256, (size, 10, 7, 3), dtype=np.uint8)),
            ("y", np.arange(size) % 3),
        )
    }
    np.savez(place.folder / "mine.npz", **arrays)
    place.run("distill", *TINY, *IMPLIED, *OWN, "model@student=mlp", "epochs=1", "run.folder=run")
    return place


def test_an_evaluation_reads_the_data_of_its_checkpoint(place):
    place.run("evaluate", "checkpoint=run/best.ckpt", *QUICK, "data.limit_test=30", "run.folder=evaluated")
    result = json.loads((place.folder / "evaluated" / "result.json").read_text())
    assert result["data"]["name"] == "mine"
    assert result["evaluation"]["n"] == 30


@pytest.mark.parametrize("stage", ["evaluate", "export"])
def test_a_reference_to_nothing_is_one_line(place, capsys, stage):
    """Before: a traceback, as the checkpoint's data were looked up first."""
    place.run(stage, "checkpoint=run/best.ckpt", "seed=${nowhere}", code=2)
    assert capsys.readouterr().err == "seed: cannot resolve ${nowhere}: Interpolation key 'nowhere' not found\n"


def test_a_sweep_over_checkpoints_does_so_job_by_job(place):
    place.run(
        "evaluate", "-m", "checkpoint=run/best.ckpt", *QUICK, "seed=0,1", "data.limit_test=15", "hydra.sweep.dir=swept"
    )
    for job in ("0", "1"):
        result = json.loads((place.folder / "swept" / job / "result.json").read_text())
        assert (result["data"]["name"], result["evaluation"]["n"]) == ("mine", 15)


def test_its_teacher_stores_outputs_for_it_and_other_data_are_named_by_key(place, capsys):
    teacher = place.only("outputs/teacher/*") / "best.ckpt"
    place.run("outputs", f"teacher.checkpoint={teacher}", "data.limit_train=64", "run.folder=stored")
    assert json.loads((place.folder / "stored" / "result.json").read_text())["data"]["name"] == "mine"
    capsys.readouterr()
    student = ["distill", *TINY, *OWN, "model@student=mlp", "epochs=1", "teacher.outputs=stored"]
    place.run(*student, "data.limit_validation=8", code=1)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "data.limit_train is 128, was 64; data.limit_validation is 8, was None" in line


def test_other_data_are_refused_as_ever(place, capsys):
    place.run("evaluate", "checkpoint=run/best.ckpt", "data=digits", code=1)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "run/best.ckpt" in line


@pytest.mark.parametrize(
    ("typed", "name", "batch"),
    [
        ([], "mine", 16),
        (["data.batch_size=7"], "mine", 7),
        (["data=digits"], "digits", 128),
        (["data=digits", "data.batch_size=7"], "digits", 7),
    ],
)
def test_what_is_typed_wins(tmp_path, typed, name, batch):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config_resolved.yaml").write_text(
        "stage: distill\ndata: {name: mine, batch_size: 16, limit_test: 3, seed: 9, augmentation: 1}\n"
    )
    overrides = [f"checkpoint={run}/best.ckpt", *typed]
    cfg = compose("evaluate", overrides)
    adopt_data(cfg, overrides)
    assert (cfg.data.name, cfg.data.batch_size) == (name, batch)
    assert (cfg.data.limit_test, cfg.data.seed, cfg.data.augmentation) == (None, 0, None)


def test_checkpoints_of_different_data_have_none_in_common(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config_resolved.yaml").write_text(f"stage: distill\ndata: {{name: {name}}}\n")
    overrides = [f"checkpoint=[{tmp_path}/a/best.ckpt,{tmp_path}/b/best.ckpt]"]
    cfg = compose("evaluate", overrides)
    adopt_data(cfg, overrides)
    assert cfg.data.name == "digits"
