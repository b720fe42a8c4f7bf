import logging

import pytest

from kdrobust.errors import DataError
from kdrobust.refusal import without_trace


def refuse(folder, *names, error=None):
    with without_trace(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text("")
        raise error or DataError("no")


def test_a_refused_run_s_folder_and_its_new_parents_go(tmp_path):
    (tmp_path / "outputs").mkdir()
    with pytest.raises(DataError):
        refuse(tmp_path / "outputs" / "distill" / "a", "run.log", "status.json")
    assert list((tmp_path / "outputs").iterdir()) == []


def test_what_was_computed_or_was_there_before_stays(tmp_path):
    with pytest.raises(DataError):
        refuse(tmp_path / "a", "run.log", "last.ckpt")
    assert (tmp_path / "a" / "last.ckpt").exists()
    with pytest.raises(DataError):
        refuse(tmp_path / "a", "run.log")
    assert (tmp_path / "a" / "run.log").exists()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_what_ends_otherwise_keeps_its_log(tmp_path, error):
    with pytest.raises(type(error)):
        refuse(tmp_path / "a", "run.log", error=error)
    assert (tmp_path / "a" / "run.log").exists()


def test_the_log_in_it_is_closed(tmp_path):
    handler = logging.FileHandler(tmp_path / "a" / "run.log", delay=True)
    logging.getLogger().addHandler(handler)
    with pytest.raises(DataError):
        refuse(tmp_path / "a", "run.log")
    assert handler not in logging.getLogger().handlers
    assert handler.stream is None
