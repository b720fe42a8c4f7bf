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


def test_a_run_s_log_is_not_configured_by_what_its_folder_calls(place):
    work = Workplace(place)
    work.run("teacher", *TINY, "epochs=1", "run.folder=run")
    (place / "run" / "status.json").write_text(json.dumps({"status": "interrupted"}))
    hydra = OmegaConf.load(place / "run" / ".hydra" / "hydra.yaml")
    hydra.hydra.job_logging.handlers.own = {"()": "os.mkdir", "path": str(place / MARK)}
    OmegaConf.save(hydra, place / "run" / ".hydra" / "hydra.yaml")
    main(["teacher", "resume=run"])
    assert not (place / MARK).exists()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [(BOMB, "write out to more than 100,000 values"), ("notes: &n\n  inner: *n\n", "refers to what it stands in")],
)
def test_aliases_that_never_end_are_one_line(place, capsys, text, words):
    (place / "conf" / "experiment" / "bomb.yaml").write_text("# @package _global_\n" + text)
    refused(place, capsys, "distill", *TINY, "experiment=bomb", words=["bomb.yaml", words])
    (place / "conf" / "experiment" / "bomb.yaml").unlink()
    (place / "run").mkdir()
    (place / "run" / "config_resolved.yaml").write_text(text)
    refused(place, capsys, "distill", "resume=run", words=[words])


def test_state_files_of_other_types_are_as_if_they_were_not_there(place):
    from kdrobust.sweeps.record import Job, read_job, read_sweep, write_job, write_sweep
    from kdrobust.tracking.owner import is_gone

    write_job(place, Job(job=0, overrides=["seed=1"]))
    assert read_job(place, 0).overrides == ["seed=1"]
    content = json.loads((place / "jobs" / "0.json").read_text())
    for changes in ({"overrides": 5}, {"job": "0"}, {"starts": None}, {"owner": [1]}, {"value": {}}):
        (place / "jobs" / "0.json").write_text(json.dumps({**content, **changes}))
        assert read_job(place, 0) is None, changes
    write_sweep(place, stage="distill", arguments=[], attempt=1)
    written = {**read_sweep(place), "arguments": 5, "attempt": "x", "owner": 3}
    (place / "sweep.json").write_text(json.dumps(written))
    assert read_sweep(place) == {"stage": "distill"}
    for owner in ({"pid": 99999999999999999999}, {"pid": 0}, {"pid": -1}, {"pid": "1"}, {"pid": None}, "pid", 5, None):
        assert is_gone(owner)


def test_a_lock_of_no_process_holds_nobody_up(place, capsys):
    lock = {"pid": 99999999999999999999, "host": os.uname().nodename, "born": 1}
    (place / "run").mkdir()
    (place / "run" / "run.lock").write_text(json.dumps(lock))
    assert main(["teacher", *TINY, "run.folder=run"]) == 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_no_file(place, capsys, kind):
    path = place / "model.ckpt"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert main(["evaluate", "checkpoint=model.ckpt"]) in (1, 2)
    assert "is a pipe or a device, not a file" in capsys.readouterr().err
    assert main(["distill", *TINY, "teacher.checkpoint=model.ckpt"]) in (1, 2)
    assert "a pipe or a device" in capsys.readouterr().err


def test_a_deleted_working_folder_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert main(["distill"]) == 2
    assert capsys.readouterr().err == "the working folder has been deleted; change to another one: cd ~\n"
