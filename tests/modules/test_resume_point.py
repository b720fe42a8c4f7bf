"""Which resume point is taken, and when one is written within an epoch."""

import logging
from types import SimpleNamespace

import pytest
import torch

from kdrobust.errors import CheckpointError
from kdrobust.modules import CheckpointFile, ResumePoint, find_resume_point, place_of
from kdrobust.modules.resume import is_between_steps

PAYLOAD = {"format": 1, "model": {"network": {}, "normalize": True}, "spec": {"shape": [64], "classes": 2}}


def write(path, epoch, batches=0, best="", **changes):
    content = {
        "state_dict": {"model.weight": torch.arange(64.0)},
        "kdrobust": PAYLOAD,
        "epoch": epoch,
        "global_step": 10 * epoch + batches,
        "DataModule": {"epoch": epoch, "batches": batches},
        "callbacks": {"ModelCheckpoint{}": {"best_model_path": str(best)}},
        "resume": {},
        **changes,
    }
    CheckpointFile().save_checkpoint(content, path, {"previous": path.with_name("previous.ckpt")})


def flip(path):
    """One bit of a weight."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(64.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


@pytest.fixture
def last(tmp_path):
    write(tmp_path / "last.ckpt", 1)
    write(tmp_path / "last.ckpt", 2, 3)
    return tmp_path / "last.ckpt"


def test_the_last_one_is_taken_and_the_one_before_is_kept(last):
    path, found = find_resume_point(last)
    assert (path, found["epoch"], place_of(found)) == (last, 2, "step 23, in epoch 3")
    last.unlink()
    path, found = find_resume_point(last)
    assert (path.name, place_of(found)) == ("previous.ckpt", "epoch 1")


def test_time_adds_up_over_processes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("kdrobust.modules.resume.time", SimpleNamespace(monotonic=lambda: now[0]))
    means = SimpleNamespace(means=SimpleNamespace(state_dict=dict), named_buffers=list)
    trainer = SimpleNamespace(callback_metrics={}, loggers=[], should_stop=False)
    spent = []
    for state in ({}, {"seconds": 7.0}):
        point = ResumePoint(path=tmp_path / "last.ckpt")
        if state:
            point.on_load_checkpoint(trainer, means, {"resume": {**state, "finished": False, "rows": []}})
        now[0] += 5
        checkpoint = {}
        point._saving = True
        point.on_save_checkpoint(trainer, means, checkpoint)
        spent.append((point.seconds_before, checkpoint["resume"]["seconds"]))
    assert spent == [(0.0, 5.0), (7.0, 12.0)]


def test_where_nothing_was_saved_there_is_none(tmp_path):
    assert find_resume_point(tmp_path / "last.ckpt") is None


@pytest.mark.parametrize("harm", [flip, cut, empty])
def test_a_damaged_one_is_passed_over_and_told(last, harm, caplog):
    harm(last)
    with caplog.at_level(logging.WARNING):
        path, found = find_resume_point(last)
    assert (path.name, found["epoch"]) == ("previous.ckpt", 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(last) in line
    assert "damaged" in line
    assert "going back to previous.ckpt, epoch 1" in line


def test_torch_itself_would_not_have_noticed(last):
    flip(last)
    read = torch.load(last, weights_only=True)["state_dict"]["model.weight"]
    assert not torch.equal(read, torch.arange(64.0))


def test_two_damaged_ones_are_an_error_with_a_remedy(last):
    flip(last)
    cut(last.with_name("previous.ckpt"))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged.*previous\.ckpt: damaged.*delete last\.ckpt and"):
        find_resume_point(last)


def test_a_resume_point_of_another_version_is_named_as_such(tmp_path):
    torch.save({"state_dict": {}, "kdrobust": PAYLOAD, "epoch": 1}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="another version"):
        find_resume_point(tmp_path / "last.ckpt")


@pytest.mark.parametrize("harm", [flip, cut, empty, lambda path: path.unlink()])
def test_a_best_checkpoint_that_is_damaged_is_not_built_upon(tmp_path, harm):
    write(tmp_path / "best.ckpt", 0)
    write(tmp_path / "last.ckpt", 1, best=tmp_path / "best.ckpt")
    assert find_resume_point(tmp_path / "last.ckpt") is not None
    harm(tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"best\.ckpt: (damaged|missing)"):
        find_resume_point(tmp_path / "last.ckpt")


@pytest.mark.parametrize("key", ["every_n_epochs", "every_n_steps", "every_minutes"])
def test_intervals_are_positive(tmp_path, key):
    with pytest.raises(ValueError, match=f"{key}: must be positive"):
        ResumePoint(path=tmp_path / "last.ckpt", **{key: 0})


def trainer(step=0, **changes):
    base = {
        "global_step": step, "num_training_batches": 6, "accumulate_grad_batches": 1, "val_check_batch": 6,
        "lr_scheduler_configs": [], "is_global_zero": True, "world_size": 1, "max_steps": -1, "should_stop": False,
        "fit_loop": SimpleNamespace(_can_stop_early=True),
        "strategy": SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    }  # fmt: skip
    return SimpleNamespace(**{**base, **changes})


def plateau(interval):
    return [SimpleNamespace(reduce_on_plateau=True, interval=interval)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"accumulate_grad_batches": 2}, [1, 3]),
        ({"val_check_batch": 2}, [0, 2, 4]),
        ({"val_check_batch": float("inf")}, [0, 1, 2, 3, 4]),
        ({"lr_scheduler_configs": plateau("step")}, []),
        ({"lr_scheduler_configs": plateau("epoch")}, [0, 1, 2, 3, 4]),
        # its last step: the epoch's validation follows
        ({"global_step": 9, "max_steps": 9}, []),
        ({"should_stop": True}, []),
        ({"should_stop": True, "fit_loop": SimpleNamespace(_can_stop_early=False)}, [0, 1, 2, 3, 4]),
    ],
)
def test_where_within_an_epoch_nothing_is_half_done(changes, expected):
    assert [batch for batch in range(6) if is_between_steps(trainer(**changes), batch)] == expected


def saved_at(point, monkeypatch, steps, clock=lambda step: 0.0):
    found = []

    def save(self, trainer):
        found.append(trainer.global_step)
        self._saved_step, self._saved_time = trainer.global_step, clock(trainer.global_step)

    monkeypatch.setattr(ResumePoint, "save", save)
    point._saved_time = clock(0)
    for step in range(1, steps + 1):
        monkeypatch.setattr("time.monotonic", lambda step=step: clock(step))
        point.on_train_batch_end(
            trainer(step, num_training_batches=100, val_check_batch=100), None, None, None, step - 1
        )
    return found


def test_a_point_every_n_steps(tmp_path, monkeypatch):
    point = ResumePoint(path=tmp_path / "last.ckpt", every_n_steps=3)
    assert saved_at(point, monkeypatch, 10) == [3, 6, 9]


def test_a_point_every_minutes(tmp_path, monkeypatch):
    point = ResumePoint(path=tmp_path / "last.ckpt", every_minutes=0.5)
    assert saved_at(point, monkeypatch, 10, clock=lambda step: 12.0 * step) == [3, 6, 9]


def test_none_within_an_epoch_unless_asked(tmp_path, monkeypatch):
    assert saved_at(ResumePoint(path=tmp_path / "last.ckpt"), monkeypatch, 10) == []
