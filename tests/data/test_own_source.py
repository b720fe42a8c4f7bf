"""A data source of the user's own: what it does wrong is said in one line that names it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdrobust.cli import main
from kdrobust.data import Arrays, DataModule, Digits
from kdrobust.errors import DataError

IMAGES = np.random.default_rng(0).random((12, 3, 10, 7), dtype=np.float32)
LABELS = np.arange(12) % 3
GOOD = Arrays(x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS, origin="mine", class_names=("a", "b", "c"))


class Given:
    def __init__(self, make):
        self.make = make

    def load(self, root):
        return self.make()


def prepared(make):
    data = DataModule(source=Given(make), name="mine")
    data.prepare()
    return data


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (IMAGES, LABELS), ["returned a tuple", "kdrobust.data.Arrays"]),
        (lambda: Arrays(x_train=IMAGES, y_train=LABELS), ["load failed", "x_test", "class_names", "HYDRA_FULL_ERROR"]),
        (lambda: replace(GOOD, classes=3), ["load failed", "classes", "Arrays takes x_train"]),
        (lambda: {}["train"], ["load failed (KeyError: 'train')"]),
        (lambda: replace(GOOD, x_train=IMAGES.tolist()), ["x_train is a list", "NumPy array"]),
        (lambda: replace(GOOD, y_test=LABELS.tolist()), ["y_test is a list", "NumPy array"]),
        (lambda: replace(GOOD, class_names=("a", "b\udcff", "c")), ["class 'b\\udcff'", "rename"]),
        (lambda: replace(GOOD, class_names=("a", "b\nc", "c")), ["class 'b\\nc'", "rename"]),
        (lambda: replace(GOOD, class_names="abc"), ["class_names is 'abc'"]),
        (lambda: replace(GOOD, class_names=(0, 1, 2)), ["class_names is (0, 1, 2)", "texts"]),
        (lambda: replace(GOOD, bounds=(0.0, 1.0, 2.0)), ["bounds is (0.0, 1.0, 2.0)", "(lo, hi)"]),
        (lambda: replace(GOOD, bounds=(1.0, 0.0)), ["bounds is (1.0, 0.0)"]),
        (lambda: replace(GOOD, bounds=1.0), ["bounds is 1.0"]),
        (lambda: replace(GOOD, sample_rate="8k"), ["sample_rate is '8k'"]),
        (lambda: replace(GOOD, validation=[0, 1]), ["validation is a list"]),
        (lambda: replace(GOOD, validation=np.array([0.5])), ["validation has dtype float64"]),
        (lambda: replace(GOOD, validation=np.array([3, 12])), ["validation names rows", "the 12 of x_train"]),
        (lambda: replace(GOOD, validation=np.array([3, 3])), ["validation names rows twice"]),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(DataError) as error:
        prepared(make)
    line = str(error.value)
    assert "\n" not in line
    assert all(word in line for word in [f"data.source={__name__}.Given: ", *words]), line


def test_lists_of_names_and_bounds_are_taken():
    data = prepared(lambda: replace(GOOD, class_names=["a", "b", "c"], bounds=[0, 1], sample_rate=np.int64(8000)))
    assert (data.spec.class_names, data.spec.bounds, data.spec.sample_rate) == (("a", "b", "c"), (0.0, 1.0), 8000)


def test_a_bug_in_a_source_of_the_package_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(Digits, "load", lambda self, root: {}["train"])
    with pytest.raises(KeyError):
        DataModule(source=Digits(), name="digits", root=Path()).prepare()


def test_arguments_without_a_class_are_no_augmentation(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "data.augmentation={crop_padding:1,flip:true}"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("data.augmentation: ")
    assert "'data.augmentation={_target_:kdrobust.data.Augmentation,crop_padding:1,flip:true}'" in line
    assert len(line.splitlines()) == 1
    with pytest.raises(ValueError, match="augmentation: expected augmentations or null, got 'flip'"):
        DataModule(source=Given(lambda: GOOD), name="mine", augmentation="flip")
