"""A disk that fills up and a file that rots, through the command line."""

import os

import pytest

from tests.stages.conftest import IMPLIED, TINY

COMMAND = ["distill", *TINY, *IMPLIED, "epochs=3", "model@student=mlp", "run.folder=run"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from tests.stages.conftest import Workplace

    place = Workplace(tmp_path_factory.mktemp("whole"))
    place.run(*COMMAND)
    return place.folder / "run"


def full_at(monkeypatch, name, count):
    """The disk is full when a file of the student's run is written for the `count`-th time."""
    seen, fsync = [], os.fsync

    def checked(descriptor):
        if f"/run/.{name}." in os.readlink(f"/proc/self/fd/{descriptor}"):
            seen.append(name)
            if len(seen) >= count:
                raise OSError(28, "No space left on device")
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", checked)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "result.json"])
def test_a_full_disk_is_told_and_nothing_is_lost(workplace, whole, monkeypatch, capsys, name):
    with monkeypatch.context() as patched:
        full_at(patched, name, 1 if name == "result.json" else 2)
        workplace.run(*COMMAND, code=1)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{name}: cannot be written (No space left on device); free some space and start" in line
    workplace.run(*COMMAND)
    assert (workplace.folder / "run" / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_rotten_resume_point_costs_an_epoch_and_no_more(workplace, whole, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        full_at(patched, "result.json", 1)
        workplace.run(*COMMAND, code=1)
    last = workplace.folder / "run" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    workplace.run(*COMMAND)
    printed = capsys.readouterr().out
    assert "last.ckpt: damaged" in printed
    assert "going back to previous.ckpt, epoch 2" in printed
    assert (workplace.folder / "run" / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
