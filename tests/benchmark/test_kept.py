"""Teachers kept with the records: copied out once, copied in where they are missing, refused where damaged."""

import hashlib
import json

import pytest

from kdrobust.benchmark.kept import FILES, fetch, keep, kept_folder
from kdrobust.errors import DataError
from tests.benchmark.suites import first_record, teacher


def trained(root, name, weights=b"weights", *, finished=True):
    """What stage `teacher` would have left; returns the checkpoint's SHA-256."""
    folder = root / "teacher" / name
    folder.mkdir(parents=True)
    digest = hashlib.sha256(weights).hexdigest()
    (folder / "best.ckpt").write_bytes(weights)
    (folder / "last.ckpt").write_bytes(b"with the optimiser's state")
    (folder / "config_resolved.yaml").write_text("seed: 0\n")
    (folder / "metrics.csv").write_text("epoch\n0\n")
    (folder / "result.json").write_text(json.dumps({"checkpoint": {"sha256": digest}}))
    (folder / "status.json").write_text(json.dumps({"status": "completed" if finished else "running"}))
    return digest


def naming(*digests):
    return [first_record(teachers={"teacher": teacher(sha256=digest)}) for digest in digests]


def test_what_records_name_is_kept_and_comes_back_on_another_machine(tmp_path):
    results, root, elsewhere = tmp_path / "results", tmp_path / "runs", tmp_path / "elsewhere"
    used = trained(root, "used-1")
    trained(root, "other-2", b"of another suite")
    assert keep(results, "trial", root, naming(used)) == ["used-1"]
    assert keep(results, "trial", root, naming(used)) == []
    assert [path.name for path in kept_folder(results, "trial").iterdir()] == ["used-1"]
    assert {path.name for path in (kept_folder(results, "trial") / "used-1").iterdir()} == set(FILES)
    assert fetch(results, "trial", elsewhere) == ["used-1"]
    assert (elsewhere / "teacher" / "used-1" / "best.ckpt").read_bytes() == b"weights"
    assert fetch(results, "trial", elsewhere) == []


def test_what_is_there_stays(tmp_path):
    results, root = tmp_path / "results", tmp_path / "runs"
    keep(results, "trial", root, naming(trained(root, "used-1")))
    (root / "teacher" / "used-1" / "note.txt").write_text("mine")
    assert fetch(results, "trial", root) == []
    assert (root / "teacher" / "used-1" / "note.txt").exists()
    assert (root / "teacher" / "used-1" / "last.ckpt").exists()


@pytest.mark.parametrize("half", ["running", "damaged"])
def test_half_a_training_is_neither_kept_nor_fetched(tmp_path, half):
    results, root = tmp_path / "results", tmp_path / "runs"
    digest = trained(root, "used-1", finished=half != "running")
    if half == "damaged":
        (root / "teacher" / "used-1" / "result.json").write_text("{")
    assert keep(results, "trial", root, naming(digest)) == []
    assert fetch(results, "trial", tmp_path / "elsewhere") == []


def test_another_checkpoint_under_a_kept_name_is_refused(tmp_path):
    results, root = tmp_path / "results", tmp_path / "runs"
    keep(results, "trial", root, naming(trained(root, "used-1")))
    (kept_folder(results, "trial") / "used-1" / "best.ckpt").write_bytes(b"swapped")
    with pytest.raises(DataError, match=r"best\.ckpt: damaged"):
        fetch(results, "trial", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "teacher").exists()
