from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from kdrobust.tracking import hold, lock, read_status, require_held, write_text
from kdrobust.tracking.folder import LOCK
from kdrobust.tracking.held import RunFolderDeletedError


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replace(folder: Path) -> None:
    # kept aside: a file system may give the same inode to the next folder
    move(folder)
    folder.mkdir()
    (folder / LOCK).write_text("of another run")


@pytest.mark.parametrize("act", [remove, move, replace])
def test_a_folder_that_is_no_more_is_not_made_again(tmp_path: Path, act) -> None:
    folder = tmp_path / "run"
    with contextlib.suppress(RunFolderDeletedError), hold(folder, config_hash="0"):
        require_held()
        act(folder)
        for write in (require_held, lambda: write_text(folder / "deeper" / "file", "x")):
            with pytest.raises(RunFolderDeletedError, match="deleted, moved or replaced"):
                write()
        write_text(tmp_path / "other" / "file", "is not concerned")
    assert folder.exists() == (act is replace)
    if act is replace:
        assert (folder / LOCK).read_text() == "of another run"
    require_held()


def test_what_is_held_by_one_s_own_sweep_and_run(tmp_path: Path) -> None:
    with lock(tmp_path / "sweep"), hold(tmp_path / "sweep" / "0", config_hash="0"):
        write_text(tmp_path / "sweep" / "0" / "file", "x")
        require_held()
    assert read_status(tmp_path / "sweep" / "0")["status"] == "completed"
    assert not list(tmp_path.rglob(LOCK))


def test_a_folder_given_by_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hold(Path("run"), config_hash="0"):
        write_text("run/file", "x")
    assert (tmp_path / "run" / "file").exists()
