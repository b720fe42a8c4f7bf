import json
import multiprocessing
import os
import socket

import pytest

from kdrobust.errors import RunFolderError
from kdrobust.tracking import hold, is_finished, read_status, write_result

HASH = "a" * 64


def test_a_run_leaves_its_status_and_no_lock(tmp_path):
    with hold(tmp_path / "run", config_hash=HASH) as folder:
        assert read_status(folder)["status"] == "running"
        assert (folder / "run.lock").exists()
    assert is_finished(tmp_path / "run")
    assert not (tmp_path / "run" / "run.lock").exists()


def test_a_failed_run_says_why_and_can_be_resumed(tmp_path):
    with pytest.raises(ValueError, match="first line"), hold(tmp_path, config_hash=HASH):
        raise ValueError("first line\nsecond line")
    status = read_status(tmp_path)
    assert (status["status"], status["error"]) == ("failed", "first line")
    with hold(tmp_path, config_hash=HASH):
        pass
    assert is_finished(tmp_path)
    assert read_status(tmp_path)["started"] == status["started"]


def test_nothing_finished_is_overwritten(tmp_path):
    with hold(tmp_path, config_hash=HASH):
        pass
    with pytest.raises(RunFolderError, match="finished run"), hold(tmp_path, config_hash=HASH):
        pass


def test_an_unfinished_run_of_another_configuration_is_left_alone(tmp_path):
    with pytest.raises(KeyboardInterrupt), hold(tmp_path, config_hash=HASH):
        raise KeyboardInterrupt
    with pytest.raises(RunFolderError, match="another configuration"), hold(tmp_path, config_hash="b" * 64):
        pass


def test_a_living_owner_is_respected_and_a_dead_one_is_not(tmp_path):
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
    with pytest.raises(RunFolderError, match="is working here"), hold(tmp_path, config_hash=HASH):
        pass
    lock.write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    with hold(tmp_path, config_hash=HASH):
        pass
    assert is_finished(tmp_path)


def test_a_damaged_lock_and_status_do_not_block(tmp_path):
    (tmp_path / "run.lock").write_text("{")
    (tmp_path / "status.json").write_text("{")
    with hold(tmp_path, config_hash=HASH):
        pass
    assert is_finished(tmp_path)


def test_another_host_s_lock_is_respected(tmp_path):
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(RunFolderError, match="elsewhere"), hold(tmp_path, config_hash=HASH):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"), hold(tmp_path / "file" / "run", config_hash=HASH):
        pass


def result(**changes):
    base = {"schema": 1, "stage": "distill", "name": "x", "seed": 0, "config_hash": HASH, "versions": {}}
    return base | changes


def test_results_are_checked_against_their_schema(tmp_path):
    write_result(tmp_path, result(seconds=1.5))
    assert json.loads((tmp_path / "result.json").read_text())["seconds"] == 1.5
    for wrong in ({"stage": "guess"}, {"seed": -1}, {"config_hash": "x"}, {"colour": 1}):
        with pytest.raises(RunFolderError, match=r"result\.json"):
            write_result(tmp_path, result(**wrong))
    assert json.loads((tmp_path / "result.json").read_text())["seconds"] == 1.5


def test_a_status_that_cannot_be_written_does_not_hide_the_error(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    def fails():
        monkeypatch.setattr("os.fsync", full)
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"), hold(tmp_path, config_hash=HASH):
        fails()
    assert read_status(tmp_path)["status"] == "running"
    assert not (tmp_path / "run.lock").exists()


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".last.ckpt.abc.tmp").write_text("half")
    (tmp_path / "mine.tmp").write_text("kept")
    with hold(tmp_path, config_hash=HASH):
        pass
    assert not (tmp_path / ".last.ckpt.abc.tmp").exists()
    assert (tmp_path / "mine.tmp").exists()


def test_a_number_that_belongs_to_another_process_by_now_is_no_owner(tmp_path):
    lock = tmp_path / "run.lock"
    # the parent lives, but not since then
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname(), "born": 1}))
    with hold(tmp_path, config_hash=HASH):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert is_finished(tmp_path)


def test_no_clock_decides_who_holds_a_folder(tmp_path, monkeypatch):
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
    # written in 1970, and read in 2100: its owner lives all the same
    os.utime(lock, (0, 0))
    monkeypatch.setattr("time.time", lambda: 4.1e9)
    with pytest.raises(RunFolderError, match="is working here"), hold(tmp_path, config_hash=HASH):
        pass


def _race(folder, ready, found):
    ready.wait()
    try:
        with hold(folder, config_hash=HASH):
            found.put("held")
            ready.wait()
    except RunFolderError as error:
        found.put("busy" if "is working here" in str(error) else str(error))
        ready.wait()


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        (folder / "run.lock").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
        ready, found = context.Barrier(6), context.Queue()
        processes = [context.Process(target=_race, args=(folder, ready, found)) for _ in range(6)]
        for process in processes:
            process.start()
        results = sorted(found.get(timeout=60) for _ in processes)
        for process in processes:
            process.join()
        assert results == ["busy"] * 5 + ["held"]


def test_a_run_that_finishes_while_another_process_takes_the_lock_is_not_run_again(tmp_path, monkeypatch):
    from kdrobust.tracking import folder as module

    original = module._take_lock

    def late(place):
        # the other one ends between our looking at the folder and our having it
        (place / "status.json").write_text(json.dumps({"status": "completed", "config_hash": HASH}))
        original(place)

    monkeypatch.setattr(module, "_take_lock", late)
    with pytest.raises(RunFolderError, match="finished run"), hold(tmp_path, config_hash=HASH):
        pass
    assert not (tmp_path / "run.lock").exists()
    assert is_finished(tmp_path)
