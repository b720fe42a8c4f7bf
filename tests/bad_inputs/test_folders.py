"""Folders that trust themselves: what stands in them runs nothing that the user has not named in the command."""

import json
import os

import pytest
import yaml
from omegaconf import OmegaConf

from kdrobust.cli import main
from tests.bad_inputs.cases import TINY
from tests.stages.conftest import Workplace

MARK = "imported"
EVIL = f"""
import pathlib, torch
(pathlib.Path(__file__).parent / "{MARK}").touch()

class Optimizer(torch.optim.SGD):
    pass
"""
TRUSTED = [
    "trusted_modules=[evil_of_the_test]",
    "optimizer._target_=evil_of_the_test.Optimizer",
    "~optimizer.weight_decay",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as it was downloaded: a package, configs that trust it, and the files of a sweep and of a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_of_the_test.py").write_text(EVIL)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    node = {"trusted_modules": ["evil_of_the_test"], "optimizer": {"_target_": "evil_of_the_test.Optimizer"}}
    (tmp_path / "conf" / "experiment" / "evil.yaml").write_text("# @package _global_\n" + yaml.safe_dump(node))
    return tmp_path


def refused(place, capsys, *typed, words=()):
    capsys.readouterr()
    assert main(list(typed)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(word in error for word in words), error
    assert not (place / MARK).exists()
    return error


SWEEP = {"stage": "distill", "arguments": ["seed=0,1", *TINY], "flags": [], "jobs": 2, "status": "cut", "search": False}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": ["seed=0,1", *TINY, *TRUSTED]}, ["imports evil_of_the_test", "add trusted_modules=[evil_of_the_test]"]),
        ({"arguments": ["seed=0,1", *TINY, "experiment=evil"]}, ["imports evil_of_the_test"]),
        ({"arguments": ["trusted_modules=[],[evil_of_the_test]", *TINY]}, ["imports evil_of_the_test"]),
        ({"arguments": ["seed=0,1", *TINY, "experiment=evil", "hydra/launcher=joblib"]}, ["imports evil_of_the_test"]),
        ({"stage": "evaluate", "arguments": ["seed=0,1", "model.import=evil_of_the_test.Optimizer", "model.trust=true",
          "trusted_modules=[evil_of_the_test]"]}, ["add trusted_modules=[evil_of_the_test] model.trust=true"]),
        ({"directory": "/tmp"}, ["was started in /tmp; go there first: cd /tmp"]),
        ({"flags": ["--experimental-rerun=evil.pickle"]}, ["does not say what was run"]),
        ({"arguments": ["seed=0,1", "--experimental-rerun=evil.pickle"]}, ["does not say what was run"]),
        ({"arguments": [5]}, ["does not say what was run"]),
        ({"flags": 5}, ["does not say what was run"]),
    ],
)  # fmt: skip
def test_a_sweep_s_folder_trusts_nobody(place, capsys, changes, words):
    (place / "sweep").mkdir()
    (place / "sweep" / "sweep.json").write_text(json.dumps({**SWEEP, "directory": str(place), **changes}))
    refused(place, capsys, "sweep", "resume", "sweep", words=words)


def test_a_run_s_folder_trusts_nobody(place, capsys, monkeypatch):
    work = Workplace(place)
    work.run("teacher", *TINY, "epochs=1", "run.folder=run")
    (place / "run" / "result.json").unlink()
    (place / "run" / "status.json").write_text(json.dumps({"status": "interrupted"}))
    cfg = OmegaConf.load(place / "run" / "config_resolved.yaml")
    cfg.trusted_modules = ["evil_of_the_test"]
    cfg.optimizer._target_ = "evil_of_the_test.Optimizer"
    OmegaConf.save(cfg, place / "run" / "config_resolved.yaml")
    words = ["imports evil_of_the_test", "add trusted_modules=[evil_of_the_test]"]
    refused(place, capsys, "teacher", "resume=run", words=words)
    refused(place, capsys, "teacher", "resume=run", "trusted_modules=[another]", words=words)
    # named by the user, it is
    main(["teacher", "resume=run", "trusted_modules=[evil_of_the_test]"])
    assert (place / MARK).exists()
    assert os.getcwd() == str(place)
