"""Files are whole or absent, whatever happens while they are written."""

import json
import os
import stat
from pathlib import Path

import pytest

from kdrobust.errors import RunFolderError
from kdrobust.tracking.atomic import write_bytes, write_json, write_text


def test_text_json_and_bytes_arrive_in_folders_made_on_the_way(tmp_path):
    write_text(tmp_path / "a" / "b" / "note.md", "ε = 8/255\n")
    write_json(tmp_path / "a" / "data.json", {"name": "ε", "values": [1, 2.5, None, True]})
    write_bytes(str(tmp_path / "raw.bin"), b"\x00\xff")
    assert (tmp_path / "a" / "b" / "note.md").read_text(encoding="utf-8") == "ε = 8/255\n"
    assert json.loads((tmp_path / "a" / "data.json").read_text(encoding="utf-8")) == {
        "name": "ε",
        "values": [1, 2.5, None, True],
    }
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\xff"


def test_json_stays_readable_by_anybody_when_a_figure_is_nan(tmp_path):
    write_json(
        tmp_path / "r.json", {"loss": float("nan"), "worst": [float("inf"), 0.5], "deep": {"x": (-float("inf"),)}}
    )

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"loss": None, "worst": [None, 0.5], "deep": {"x": [None]}}
    assert text.endswith("}\n")


def test_no_temporary_file_is_left_and_the_mode_is_an_ordinary_files(tmp_path):
    path = tmp_path / "result.json"
    write_text(path, "one")
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o640)
    write_text(path, "two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "two"


def test_a_kill_between_writing_and_replacing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_text(path, "whole")

    def killed(source, target):
        assert Path(source).read_text() == "half of the new"
        assert Path(source).parent == tmp_path
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "half of the new")
    assert path.read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_the_bytes_are_on_disk_before_the_name_is_taken(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    write_text(tmp_path / "x", "text")
    assert calls == ["fsync", "replace"]


def test_what_cannot_be_written_is_one_line_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError) as caught:
        write_text(tmp_path / "file" / "result.json", "text")
    message = str(caught.value)
    assert str(tmp_path / "file" / "result.json") in message
    assert "run.root" in message
    assert "\n" not in message


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        write_bytes(tmp_path / "x.npz", b"data")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_json_is_refused_before_anything_is_touched(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"model": object()})
    assert list(tmp_path.iterdir()) == []
