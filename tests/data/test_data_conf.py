"""The options under conf/data say what they are, and their keys fit what they configure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kdrobust.config.build import instantiate
from kdrobust.config.check import check
from kdrobust.data import Augmentation, DataModule

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml"))
#: Options that read the user's own files.
YOURS = ("image_folder", "npz", "spoken_words")
#: Checkpoints of the classifiers that are attacked.
CLASSIFIERS = ["source.classifier=a.ckpt", "source.surrogate=b.ckpt"]


def option(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose(config_name=f"data/{name}", overrides=[f"data.{override}" for override in overrides]).data
    return OmegaConf.create({"seed": 3, "data": node})


def test_the_options():
    images = ["cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "mnist", "npz", "svhn"]
    assert sorted(NAMES) == sorted([*images, "detection", "espeak_digits", "fsdd", "speech_commands", "spoken_words"])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_complete_and_explained(name):
    cfg = option(name, *_path(name))
    assert check(cfg) == []
    data = instantiate(cfg.data)
    assert isinstance(data, DataModule)
    assert data.name == name
    assert data.seed == 3
    header = [line for line in (CONF / "data" / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
    assert len(header) >= 4
    for word in ("# Source:", "# Get it:", "# Size:"):
        assert any(line.startswith(word) for line in header)


@pytest.mark.parametrize("name", YOURS)
def test_your_own_data_need_a_path(name):
    assert check(option(name)) == ["data.source.path: not given; set data.source.path=..."]


def test_augmentation_is_for_colour_images_and_no_mirrored_digits():
    found = {name: instantiate(option(name, *_path(name)).data).augmentations for name in NAMES}
    assert {name for name, steps in found.items() if steps} == {"cifar10", "cifar100", "svhn"}
    for name, steps in found.items():
        for step in steps:
            assert isinstance(step, Augmentation)
            assert (step.crop_padding, step.flip, step.cutout) == (4, name != "svhn", 0)


def _path(name):
    return CLASSIFIERS if name == "detection" else ["source.path=here"] if name in YOURS else []


def test_augmentation_can_be_switched_off():
    assert instantiate(option("cifar10", "augmentation=null").data).augmentations == []


def test_root_follows_the_environment(monkeypatch):
    monkeypatch.delenv("KDROBUST_DATA", raising=False)
    assert instantiate(option("digits").data).root == Path("datasets")
    monkeypatch.setenv("KDROBUST_DATA", "/somewhere")
    assert instantiate(option("digits").data).root == Path("/somewhere")
