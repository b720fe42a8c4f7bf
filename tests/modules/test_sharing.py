"""Jobs that show their teacher the same augmented images ask it once, and train as if each had asked."""

import json
import os
import shutil

import pytest
import torch
from omegaconf import open_dict

from kdrobust.config import compose
from kdrobust.modules import SharedAnswers
from kdrobust.stages import teachers
from kdrobust.stages.run import run_stage
from tests.processes import SHORT, TINY, caught, teacher_file

AUGMENTED = ["data.augmentation={_target_: kdrobust.data.Augmentation, crop_padding: 1}", "epochs=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    teacher_file(folder)
    return folder


def distilled(place, name, *overrides, sweep=True, root="outputs"):
    """A run's weights, and how often the teacher answered while it trained."""
    lines = [*SHORT, *TINY, *AUGMENTED, "method=kd", f"teacher.checkpoint={place / 'teacher.ckpt'}", *overrides]
    cfg = compose("distill", [*lines, f"run.root={place / root}"])
    with open_dict(cfg):
        cfg.run.sweep = sweep
    asked = []
    load = teachers.load_teachers

    def counted(*arguments):
        models, origin = load(*arguments)
        for model in models.values():
            # validation asks in batches of another size
            model.register_forward_hook(lambda module, args, output: asked.append(len(args[0]) == 16))
        return models, origin

    from kdrobust.stages import distill

    folder = place / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before = distill.load_teachers
    distill.load_teachers = counted
    try:
        with caught() as kept:
            run_stage(cfg, folder)
    finally:
        distill.load_teachers = before
    return kept["weights"], sum(asked)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_second_job_asks_nothing_and_ends_with_the_same_bits(place):
    alone, asked = distilled(place, "alone", sweep=False, root="single")
    assert asked == 12  # 96 samples in batches of 16, two epochs
    assert not (place / "single" / "answers").exists()
    first, asked = distilled(place, "first")
    assert asked == 12
    second, asked = distilled(place, "second")
    assert asked == 0
    assert equal(first, alone)
    assert equal(second, alone)
    # what the teacher was asked does not depend on what the student makes of it
    other, asked = distilled(place, "other", "method.temperature=2")
    assert asked == 0
    assert not equal(other, alone)


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "data.batch_size=32",
        "data.augmentation.crop_padding=2",
        "data.limit_train=80",
        "teacher.precision=fp32",
    ],
)
def test_other_images_are_other_questions(place, change):
    distilled(place, "first")
    lines = [change] if change.startswith("data.limit_train") else [change, "data.limit_train=96"]
    before = set((place / "outputs" / "answers").iterdir())
    distilled(place, "changed", *lines)
    assert len(set((place / "outputs" / "answers").iterdir()) - before) == 1


class Alone:
    def reduce_boolean_decision(self, decision, all):
        return decision


def test_an_epoch_begun_elsewhere_is_not_kept(place):
    """A run resumed in the middle of an epoch has not seen all of its answers."""
    callback = SharedAnswers(root=place / "half", keys={"teacher": {}}, limit=1e9)
    trainer = type("T", (), {"world_size": 1, "num_training_batches": 2, "precision": "32", "current_epoch": 0,
                             "global_rank": 0, "is_global_zero": True, "strategy": Alone()})()  # fmt: skip
    module = type("M", (), {"device": torch.device("cpu"), "teacher_precision": "auto"})()
    batch = type("B", (), {"indices": torch.arange(3), "outputs": {"teacher.clean": torch.zeros(3, 2)}})()
    callback.on_train_epoch_start(trainer, module)
    callback.on_train_batch_end(trainer, module, None, batch, 1)
    callback.on_train_epoch_end(trainer, module)
    assert not list((place / "half").rglob("*.safetensors"))


@pytest.mark.parametrize(
    "lines", [["method=adaad"], ["teacher.shared_views_gb=0"], ["teacher.outputs=null"], ["data.augmentation=null"]]
)
def test_off_where_it_would_be_wrong_or_is_not_wanted(place, lines):
    distilled(place, "off", *lines, root="off")
    assert not (place / "off" / "answers").exists()


def test_unaugmented_images_are_asked_about_once_for_all_runs(place):
    plain = ["data.augmentation=null"]
    first, asked = distilled(place, "plain_first", *plain, sweep=False, root="plain")
    assert asked == 0
    (stored,) = (place / "plain" / "outputs").iterdir()
    written = (stored / "outputs.safetensors").stat().st_mtime_ns
    second, _ = distilled(place, "plain_second", *plain, "seed=0", sweep=False, root="plain")
    assert equal(first, second)
    assert (stored / "outputs.safetensors").stat().st_mtime_ns == written
    live, asked = distilled(place, "plain_live", *plain, "teacher.outputs=null", sweep=False, root="plain")
    assert asked == 12
    for key, value in live.items():
        torch.testing.assert_close(first[key], value, rtol=1e-3, atol=1e-4)
    # another teacher at the same path is another teacher
    os.replace(place / "teacher.ckpt", place / "kept.ckpt")
    payload = torch.load(place / "kept.ckpt", weights_only=True)
    torch.save({**payload, "epoch": 1}, place / "teacher.ckpt")
    distilled(place, "plain_third", *plain, sweep=False, root="plain")
    os.replace(place / "kept.ckpt", place / "teacher.ckpt")
    assert len(list((place / "plain" / "outputs").iterdir())) == 2
    manifest = json.loads((stored / "outputs.json").read_text())
    assert manifest["checkpoint"]["path"] == str(place / "teacher.ckpt")
