from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kdrobust.data.arrays import content_hash
from kdrobust.data.checks import check_arrays
from kdrobust.errors import DataError


@pytest.fixture
def good(toy):
    return toy().load("anywhere")


def test_good_arrays_give_their_classes(good, toy):
    assert check_arrays(good) == 3
    assert check_arrays(toy(dtype=np.float64).load("")) == 3
    assert check_arrays(replace(good, class_names=("a", "b", "c"))) == 3


def floats(good, value):
    images = (good.x_train / 255).astype(np.float32)
    images[7, 0, 0, 0] = value
    return replace(good, x_train=images, x_test=(good.x_test / 255).astype(np.float32))


def refused(arrays, *words):
    with pytest.raises(DataError) as caught:
        check_arrays(arrays)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("toy: ")
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(good, value):
    refused(floats(good, value), "x_train", "NaN or infinite", "sample 7", "remove or repair")


def test_a_nan_beyond_the_first_chunk(good):
    images = np.zeros((5000, 1, 1, 1), np.float32)
    images[4999] = np.nan
    arrays = replace(good, x_train=images, y_train=np.arange(5000) % 3, x_test=good.x_test[:, :1, :1, :1] / 255)
    refused(arrays, "sample 4999")


def test_pixels_up_to_255(good):
    refused(floats(good, 255.0), "x_train", "pixels up to 255", "divide by 255 or store uint8")


@pytest.mark.parametrize("value", [-0.5, 300.0])
def test_normalised_pixels(good, value):
    refused(floats(good, value), "x_train", "expected [0, 1]", "normalisation")


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool])
def test_other_pixel_types(good, dtype):
    refused(replace(good, x_test=good.x_test.astype(dtype)), "x_test", np.dtype(dtype).name, "uint8")


def test_train_and_test_of_two_types(good):
    refused(replace(good, x_test=(good.x_test / 255).astype(np.float32)), "x_train is uint8, x_test is float32")


def test_train_and_test_of_two_shapes(good):
    refused(replace(good, x_test=good.x_test[:, :1]), "(3, 5, 4)", "(1, 5, 4)", "make them match")


def test_labels_as_floats(good):
    refused(replace(good, y_train=good.y_train.astype(np.float32)), "y_train", "float32", "integers")


def test_labels_as_one_hot(good):
    refused(replace(good, y_test=np.eye(3, dtype=int)[good.y_test]), "y_test", "(18, 3)", "argmax")


def test_negative_labels(good):
    refused(replace(good, y_test=good.y_test - 1), "y_test", "-1", "0 .. K-1")


def test_labels_beyond_the_names(good):
    refused(replace(good, class_names=("a", "b")), "y_train holds the label 2", "2 classes (0 .. 1)")


def test_test_labels_beyond_the_training_labels(good):
    labels = good.y_test.copy()
    labels[0] = 3
    refused(replace(good, y_test=labels), "y_test holds the label 3", "3 classes (0 .. 2)")


def test_a_stray_label(good):
    labels = good.y_train.copy()
    labels[0] = 10**12
    refused(replace(good, y_train=labels), "y_train holds the label 1000000000000")


def test_one_class(good):
    refused(replace(good, y_train=good.y_train * 0, y_test=good.y_test * 0), "one class only")


@pytest.mark.parametrize("key", ["y_train", "y_test"])
def test_an_empty_class(good, key):
    labels = getattr(good, key).copy()
    labels[labels == 1] = 0
    refused(replace(good, **{key: labels}), "no sample of class 1", key)
    refused(replace(good, **{key: labels, "class_names": ("a", "bee", "c")}), "no sample of class bee", key)


def test_lengths_that_differ(good):
    refused(replace(good, y_train=good.y_train[:-1]), "x_train has 90 samples, y_train has 89")


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_samples(good, part):
    empty = {f"x_{part}": getattr(good, f"x_{part}")[:0], f"y_{part}": getattr(good, f"y_{part}")[:0]}
    refused(replace(good, **empty), f"x_{part} holds no samples")


def test_shapes_that_are_no_images(good):
    refused(replace(good, x_train=good.x_train[:, 0, 0, 0]), "x_train has shape (90,)")
    refused(replace(good, x_test=good.x_test[:, :, :0]), "without pixels")


def test_content_hash_sees_type_shape_and_every_value(good):
    images = good.x_train
    changed = images.copy()
    changed[-1, -1, -1, -1] ^= 1
    variants = [images, changed, images.reshape(90, 5, 3, 4), images.view(np.int8), images[::-1]]
    assert len({content_hash(variant) for variant in variants}) == len(variants)
    transposed = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert content_hash(transposed) == content_hash(images)


def test_other_bounds_than_pixels_are_kept(good):
    signals = replace(
        good,
        x_train=(good.x_train / 127.5 - 1).astype(np.float32).clip(-1, 1),
        x_test=(good.x_test / 127.5 - 1).astype(np.float32).clip(-1, 1),
        bounds=(-1.0, 1.0),
    )
    assert check_arrays(signals) == 3
    refused(replace(signals, bounds=(0.0, 1.0)), "expected [0, 1]", "normalisation")
    refused(replace(good, bounds=(-1.0, 1.0)), "dtype uint8", "store floating point in [-1, 1]")
    loud = signals.x_test.copy()
    loud[3] *= 3
    refused(replace(signals, x_test=loud), "x_test", "values from -", "expected [-1, 1]; scale them")
