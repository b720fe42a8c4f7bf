"""A user's mistakes: one line with the key and the remedy, the right exit code, no traceback, no training."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.stages.conftest import TINY


def line(capsys):
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method.temprature=4"], ["method.temprature", "method.temperature"]),
        (["+method.temprature=4"], ["method.temprature"]),
        (["method=rsald"], ["rsald", "rslad"]),
        (["threat.eps=-1"], ["threat.eps", "negative"]),
        (["threat.eps=abc"], ["threat.eps", "abc"]),
        (["threat.eps=8"], ["threat.eps", "8/255"]),
        (["teacher.checkpoint=absent.ckpt"], ["teacher.checkpoint", "absent.ckpt", "no such file"]),
        (["method.alpha=2"], ["method.terms", "alpha"]),
        (["+method.terms.clean.temperature=0"], ["method.terms.clean", "temperature must be positive"]),
        (["method.terms.clean.loss=soft_tagret"], ["soft_target"]),
        (["attack.steps=-3"], ["attack.steps"]),
        (["attack.goal=kl_to_techer"], ["attack.goal", "kl_to_teacher"]),
        (["data.batch_size=0"], ["data.batch_size"]),
        (["seed=-1"], ["seed"]),
        (["epochs=0"], ["epochs"]),
        (["optimizer._target_=os.system"], ["optimizer", "not allowed"]),
        (["optimizer.lr=fast"], ["optimizer.lr"]),
        (["callbacks.attack.warmup=2"], ["warmup"]),
        (["teacher.outputs=nowhere"], ["teacher.outputs"]),
    ],
)
def test_usage(workplace, capsys, arguments, words):
    workplace.run("distill", *TINY, *arguments, code=2)
    error = line(capsys)
    assert len(error.splitlines()) == 1, error
    for word in words:
        assert word in error


def test_a_method_that_needs_a_teacher_in_stage_teacher(workplace, capsys):
    workplace.run("teacher", *TINY, "method=rslad", code=2)
    assert "kdrobust distill" in line(capsys)


def test_several_mistakes_are_told_at_once(workplace, capsys):
    workplace.run("distill", "threat.eps=abc", "seed=-1", code=2)
    error = line(capsys)
    assert "threat.eps" in error or "seed" in error


def test_a_truncated_checkpoint(workplace, trained, capsys):
    data = (trained / "best.ckpt").read_bytes()
    (workplace.folder / "cut.ckpt").write_bytes(data[: len(data) // 2])
    workplace.run("distill", *TINY, "teacher.checkpoint=cut.ckpt", code=1)
    assert "cut.ckpt" in line(capsys)
    workplace.run("evaluate", "checkpoint=cut.ckpt", code=1)
    assert "damaged" in line(capsys)


def arrays(**changes):
    generator = np.random.default_rng(0)
    base = {
        "x_train": generator.random((60, 1, 8, 8), dtype=np.float32),
        "y_train": np.arange(60) % 3,
        "x_test": generator.random((15, 1, 8, 8), dtype=np.float32),
        "y_test": np.arange(15) % 3,
    }
    return {**base, **changes}


def test_a_teacher_of_another_class_count(workplace, trained, capsys):
    np.savez(workplace.folder / "three.npz", **arrays())
    workplace.run(
        "distill", "data=npz", "data.source.path=three.npz", f"teacher.checkpoint={trained / 'best.ckpt'}", code=1
    )
    error = line(capsys)
    assert "10 classes" in error
    assert "3" in error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.full((60, 1, 8, 8), np.nan, dtype=np.float32)}, ["x_train"]),
        ({"x_train": np.full((60, 1, 8, 8), 200.0, dtype=np.float32)}, ["x_train", "255"]),
        ({"y_train": np.arange(60) % 3 - 1}, ["y_train"]),
        ({"y_test": np.arange(15) % 3 + 5}, ["y_test"]),
        ({"y_train": np.where(np.arange(60) % 3 == 1, 0, np.arange(60) % 3)}, ["class"]),
    ],
)
def test_data_that_cannot_be_used(workplace, capsys, changes, words):
    np.savez(workplace.folder / "bad.npz", **arrays(**changes))
    workplace.run("distill", "data=npz", "data.source.path=bad.npz", "method=pgd_at", code=1)
    error = line(capsys)
    assert len(error.splitlines()) == 1
    for word in ("bad.npz", *words):
        assert word in error


def test_stored_outputs_of_other_data_or_cut_short(workplace, trained, capsys):
    workplace.run("outputs", f"teacher.checkpoint={trained / 'best.ckpt'}", "run.folder=stored", "data.limit_train=128")
    capsys.readouterr()
    workplace.run("distill", *TINY, "data.limit_train=64", "teacher.outputs=stored", code=1)
    assert "other data" in line(capsys)
    file = workplace.folder / "stored" / "outputs.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    workplace.run("distill", "data.limit_train=128", "teacher.outputs=stored", code=1)
    assert "truncated" in line(capsys)


def test_an_output_folder_that_cannot_be_written(workplace, capsys):
    (workplace.folder / "file").write_text("")
    workplace.run("distill", *TINY, "method=standard", "run.root=file", code=1)
    assert "run.root" in line(capsys)


@pytest.mark.parametrize("how", ["permissions", "file system"])
def test_a_read_only_output_folder(workplace, capsys, monkeypatch, how):
    root = workplace.folder / "outputs"
    root.mkdir()
    if how == "permissions":
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only to root")
        root.chmod(0o555)
    else:
        mkdir = Path.mkdir

        def refuse(path, *options, **more):
            if path.absolute().is_relative_to(root) and path.absolute() != root:
                raise OSError(30, "Read-only file system", str(path))
            mkdir(path, *options, **more)

        monkeypatch.setattr(Path, "mkdir", refuse)
    workplace.run("distill", *TINY, "method=standard", code=1)
    error = line(capsys)
    assert "cannot be written (" in error
    assert "set run.root=FOLDER" in error
    assert len(error.splitlines()) == 1
    assert list(root.iterdir()) == []


def test_a_loss_that_is_not_finite_is_named(workplace, capsys):
    workplace.run(
        "distill",
        *TINY,
        "method=standard",
        "optimizer=sgd",
        "optimizer.lr=1e30",
        "scheduler=constant",
        "epochs=3",
        code=1,
    )
    error = line(capsys)
    assert "terms: prediction" in error
    assert "optimizer.lr" in error


@pytest.mark.parametrize(("busy", "tries"), [(False, 1), (True, 3)])
def test_a_shared_teacher_is_waited_for_only_while_somebody_trains_it(workplace, capsys, monkeypatch, busy, tries):
    from kdrobust.errors import RunFolderBusyError, RunFolderError
    from kdrobust.stages import teacher, teachers

    calls = []

    def refuse(config, folder, digest, objective):
        calls.append(folder)
        raise (
            RunFolderBusyError("somebody is working here")
            if busy and len(calls) < 3
            else RunFolderError("not writable")
        )

    monkeypatch.setattr(teacher, "run", refuse)
    slept = []
    monkeypatch.setattr(teachers, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    workplace.run("distill", *TINY, code=1)
    assert slept == [0.5, 1.0][: tries - 1], "looking costs its preparation"
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert told.err.strip().endswith("not writable")
    assert len(calls) == tries
    assert (told.out + told.err).count("training the teacher in") == 1, "who waits says so once"
