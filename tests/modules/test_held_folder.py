from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from kdrobust.cli import main
from kdrobust.modules import HeldFolder, held_folder
from kdrobust.tracking import lock
from kdrobust.tracking.held import RunFolderDeletedError


def test_it_looks_once_a_second(tmp_path: Path, monkeypatch) -> None:
    callback = HeldFolder()
    with lock(tmp_path / "run"):
        callback.on_train_batch_end(None, None, None, None, 0)  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "run")
        callback.on_train_batch_end(None, None, None, None, 1)  # type: ignore[arg-type]
        now = time.monotonic()
        monkeypatch.setattr(held_folder.time, "monotonic", lambda: now + 2)
        with pytest.raises(RunFolderDeletedError):
            callback.on_validation_batch_end(None)  # type: ignore[arg-type]


def test_a_run_whose_folder_is_deleted_ends_at_once(tmp_path: Path, monkeypatch, capsys) -> None:
    """Before: it went on in a new folder, without lock and config."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "here"

    def delete() -> None:
        while not (folder / "last.ckpt").exists():
            time.sleep(0.01)
        folder.rename(tmp_path / "trash")

    thread = threading.Thread(target=delete)
    thread.start()
    small = ["data.limit_train=64", "data.limit_validation=20", "callbacks.robust_validation.attack.steps=1"]
    code = main(["distill", "method=standard", "epochs=1000", "threads=1", f"run.folder={folder}", *small])
    thread.join()
    out = capsys.readouterr()
    assert code == 1
    assert out.err.startswith(f"{folder}: deleted, moved or replaced while the run worked in it")
    assert out.err.count("\n") == 1
    assert "resume=" not in out.out + out.err
    assert not folder.exists()
