"""A run that was killed and taken up again is the uninterrupted run, to the bit, whatever its method carries."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from kdrobust.config import compose, instantiate
from kdrobust.errors import StoppedError
from kdrobust.modules import ResumePoint, RobustModule, find_resume_point, place_of
from kdrobust.stages.setup import new_classifier
from kdrobust.stages.training import time_spent
from tests.processes import AROUND, TINY, run, teacher_file

#: method and wraps together, and what of their state must be in the comparison
CARRIED = {
    "mtard": (["method=mtard"], ["state.balance.weights", "state.balance.first"]),
    "fair and ema": (["method=fair_rslad", "+average=ema"], ["state.sample_weight.weights"]),
    "absld": (["method=absld"], ["state.adversarial.temperatures", "state.clean.temperatures"]),
    "peeraid": (["method=peeraid"], []),
    "lbgat": (["method=lbgat"], []),
    "saad and swa": (["method=saad", "+average=swa", "callbacks.average.begin=0"], []),
    "triangle and awp": ([*AROUND["triangle"], "+wrap=awp"], ["state.weighting.sums", "state.weighting.counts"]),
    "curriculum and adapter": (
        [*AROUND["hint"], *AROUND["curriculum"][1:]],
        ["state.knowledge.raw_temperature", "adapters.features.layers.0.weight", "adapters.features.layers.1.running_var"],
    ),
}  # fmt: skip
OURS = ("AveragedWeights", "CollapseWarning", "OverfittingWarning")


class KilledError(Exception):
    pass


def same(first, second, where=""):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key, value in first.items():
            same(value, second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for place, value in enumerate(first):
            same(value, second[place], f"{where}[{place}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return teacher_file(tmp_path_factory.mktemp("teacher"))


def dying(monkeypatch, hook, after):
    """Runs die where a hook of the resume point has been called and `after` says so."""
    original = getattr(ResumePoint, hook)

    def dies(self, trainer, module, *rest):
        original(self, trainer, module, *rest)
        if after(trainer):
            raise KilledError

    monkeypatch.setattr(ResumePoint, hook, dies)


def compare_runs(folder, checkpoint, monkeypatch, composed, deaths, steps=8):
    """An uninterrupted run, and one that dies once at every one of `deaths` and is taken up again each time."""
    whole = run(composed.copy(), folder / "run", checkpoint)
    # the same folder for both: checkpoints name it
    (folder / "run").rename(folder / "whole")
    for hook, after in deaths:
        with monkeypatch.context() as patched:
            dying(patched, hook, after)
            with pytest.raises(KilledError):
                run(composed.copy(), folder / "run", checkpoint)
        # what the dead process had in memory is gone; a torch generator is no part of a run
        torch.manual_seed(1234)
    resumed = run(composed.copy(), folder / "run", checkpoint)
    assert resumed["steps"] == whole["steps"] == steps
    same(resumed["weights"], whole["weights"])
    same(resumed["optimizer"], whole["optimizer"])
    for name in OURS:
        same(resumed["callbacks"].get(name, {}), whole["callbacks"].get(name, {}), name)
    same(resumed["metrics"], whole["metrics"])
    for name in ("metrics.csv", "best.ckpt", "averaged.ckpt"):
        if (folder / "whole" / name).exists():
            assert (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    return whole


def orders(monkeypatch):
    """A list that every batch trained on adds its samples' numbers to."""
    seen, original = [], RobustModule.training_step

    def keep(self, batch, batch_idx):
        seen.append(batch.indices.tolist())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(RobustModule, "training_step", keep)
    return seen


def step(number):
    return "on_train_batch_end", lambda trainer: trainer.global_step == number


SECOND_EPOCH = ("on_train_epoch_start", lambda trainer: trainer.current_epoch == 1)


@pytest.mark.parametrize("label", CARRIED)
def test_resumed_equals_uninterrupted(tmp_path, checkpoint, monkeypatch, label):
    lines, carried = CARRIED[label]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", "callbacks.last.every_n_steps=1", *TINY, *lines])
    # resumed at an epoch's begin, and within the second epoch of four steps
    whole = compare_runs(tmp_path, checkpoint, monkeypatch, composed, [SECOND_EPOCH, step(6)])
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    for key in carried:
        # not what a fresh start has: zeros or ones
        value = kept[f"objective.{key}"]
        assert not bool(((value == 0) | (value == 1)).all()), key
    if "+average" in "".join(lines):
        assert whole["callbacks"]["AveragedWeights"]["count"] == (2 if "swa" in label else 8)


SMALL = [line for line in TINY if "model@student" not in line and "student." not in line]


@pytest.mark.parametrize("scheduler", ["one_cycle", "plateau"])
def test_deaths_after_many_steps(tmp_path, checkpoint, monkeypatch, scheduler):
    lines = ["model@student=mlp", f"scheduler={scheduler}", "callbacks.last.every_n_steps=2"]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, *lines])
    deaths = [step(1), step(2), step(3), step(4), SECOND_EPOCH, step(5), step(7), step(8)]
    compare_runs(tmp_path, checkpoint, monkeypatch, composed, deaths)


def test_gradients_that_are_collected_over_steps(tmp_path, checkpoint, monkeypatch):
    lines = [
        "model@student=mlp",
        "callbacks.last.every_n_steps=1",
        "trainer.accumulate_grad_batches=2",
    ]
    composed = compose("distill", ["epochs=2", "data.limit_train=128", *SMALL, *lines])
    batches = [("on_train_batch_end", lambda trainer, at=at: trainer.fit_loop.batch_idx == at) for at in (2, 3, 4)]
    compare_runs(tmp_path, checkpoint, monkeypatch, composed, batches)


def test_a_validation_within_the_epoch(tmp_path, checkpoint, monkeypatch):
    lines = ["model@student=mlp", "callbacks.last.every_n_steps=1", "+trainer.val_check_interval=2"]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, *lines])
    compare_runs(tmp_path, checkpoint, monkeypatch, composed, [step(2), step(3), step(6), step(7)])


def test_what_the_model_draws_itself(tmp_path, checkpoint, monkeypatch):
    from kdrobust.stages import start

    def with_dropout(*arguments):
        model = new_classifier(*arguments)
        model.network = nn.Sequential(nn.Dropout(0.5), model.network)
        return model

    monkeypatch.setattr(start, "new_classifier", with_dropout)
    lines = ["model@student=mlp", "callbacks.last.every_n_steps=1"]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, *lines])
    compare_runs(tmp_path, checkpoint, monkeypatch, composed, [step(3), SECOND_EPOCH])


@pytest.mark.parametrize(("most", "deaths"), [(6, [step(2), SECOND_EPOCH, step(5)]), (20, [SECOND_EPOCH, step(7)])])
def test_a_limit_of_steps(tmp_path, checkpoint, monkeypatch, most, deaths):
    lines = ["model@student=mlp", "scheduler=plateau", "callbacks.last.every_n_steps=1", f"+trainer.max_steps={most}"]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, *lines])
    compare_runs(tmp_path, checkpoint, monkeypatch, composed, deaths, steps=min(most, 8))


def test_processes_that_read_ahead(tmp_path, checkpoint, monkeypatch):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (folder := tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(45 if split == "train" else 2):
                Image.new("L", (8, 8), number * 5).save(folder / f"{number}.png")
    lines = ["data=image_folder", f"data.source.path={tmp_path / 'images'}", "data.loader=workers"]
    lines += ["model@student=mlp", "method=pgd_at", "data.augmentation=null", "callbacks.last.every_n_steps=1"]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, *lines, "data.num_workers=2"])
    with monkeypatch.context() as patched:
        seen = orders(patched)
        compare_runs(tmp_path, checkpoint, patched, composed, [step(3), SECOND_EPOCH, step(6)])
    data = instantiate(compose("distill", ["data.limit_train=64", *SMALL, *lines]).data)
    loader = data.train_dataloader()
    expected = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        expected += [batch.indices.tolist() for batch in loader]
    assert seen == expected * 2


def signalled(monkeypatch, number, during, times=1):
    """The process is sent a signal in the midst of a training step."""
    original = RobustModule.training_step

    def step(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        if self.global_step + 1 == during:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return loss

    monkeypatch.setattr(RobustModule, "training_step", step)


@pytest.mark.parametrize(
    ("number", "during", "code", "place"),
    [
        (signal.SIGTERM, 2, 143, "step 2, in epoch 1"),
        (signal.SIGINT, 6, 130, "step 6, in epoch 2"),
        (signal.SIGUSR1, 7, 143, "step 7, in epoch 2"),
        # validation is next: the step that is done is not lost
        (signal.SIGTERM, 4, 143, "epoch 1"),
        (signal.SIGTERM, 8, 143, "epoch 2, the last one"),
    ],
)
def test_a_signal_ends_the_step_and_leaves_a_resume_point(
    tmp_path, checkpoint, monkeypatch, number, during, code, place
):
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, "model@student=mlp"])
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        signalled(patched, number, during)
        with pytest.raises(StoppedError) as stopped:
            run(composed.copy(), tmp_path / "run", checkpoint)
    assert stopped.value.code == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    path, content = find_resume_point(tmp_path / "run" / "last.ckpt")
    assert (path.name, place_of(content)) == ("last.ckpt", place)
    resumed = run(composed.copy(), tmp_path / "run", checkpoint)
    assert content["resume"]["seconds"] > 0
    (tmp_path / "run").rename(tmp_path / "stopped")
    whole = run(composed.copy(), tmp_path / "run", checkpoint)
    same(resumed["weights"], whole["weights"])
    for name in ("metrics.csv", "best.ckpt"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_the_time_of_killed_processes_counts(tmp_path):
    trainer = SimpleNamespace(callbacks=[])
    alone = time_spent(trainer, time.monotonic() - 10)
    point = ResumePoint(path=tmp_path / "last.ckpt")
    point.seconds_before = 50.0
    trainer.callbacks.append(point)
    assert 10 <= alone < 40 < 60 <= time_spent(trainer, time.monotonic() - 10)


def test_a_second_ctrl_c_leaves_at_once(tmp_path, checkpoint, monkeypatch):
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *SMALL, "model@student=mlp"])
    signalled(monkeypatch, signal.SIGINT, 2, times=2)
    with pytest.raises(StoppedError) as stopped:
        run(composed.copy(), tmp_path / "run", checkpoint)
    assert stopped.value.code == 130
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert not (tmp_path / "run" / "run.lock").exists()
