"""Are these arrays a data set one can train and attack on? Each answer "no" is one line with the remedy."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdrobust.data.arrays import Arrays, FilePixels, Pixels, Source
from kdrobust.errors import DataError, KdrobustError

_CHUNK = 4096
_FIELDS = tuple(field.name for field in fields(Arrays))


def read_source(source: Source, root: Path) -> Arrays:
    """What a source gives, its fields of the types that `Arrays` says; the values are for `check_arrays`.

    Args:
        source: of this package, or of the user's own.
        root: folder of downloaded data sets.

    Raises:
        DataError: code of the user's own that fails, or fields that are missing or of another type; names the source.
    """
    name = f"{type(source).__module__}.{type(source).__name__}"
    what = f"data.source={name}"
    try:
        arrays = source.load(root)
    except KdrobustError:
        raise
    except Exception as error:
        if name.startswith("kdrobust."):
            raise
        known = f"; Arrays takes {', '.join(_FIELDS)}" if "Arrays.__init__" in str(error) else ""
        line = " ".join(str(error).split())
        raise DataError(
            f"{what}: load failed ({type(error).__name__}: {line}){known}; HYDRA_FULL_ERROR=1 shows where"
        ) from error
    if not isinstance(arrays, Arrays):
        raise DataError(f"{what}: load returned a {type(arrays).__name__}; expected kdrobust.data.Arrays")
    return _typed(arrays, what)


def _typed(arrays: Arrays, what: str) -> Arrays:
    for key in ("x_train", "y_train", "x_test", "y_test", "validation"):
        value = getattr(arrays, key)
        if isinstance(value, np.ndarray) or (key.startswith("x_") and isinstance(value, FilePixels)):
            continue
        raise DataError(f"{what}: {key} is a {type(value).__name__}; expected a NumPy array")
    names, bounds, rate = arrays.class_names, arrays.bounds, arrays.sample_rate
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise DataError(f"{what}: class_names is {names!r}; expected texts, one a class, or ()")
    if unprintable := [each for each in names if not each.isprintable()]:
        # names of folders: bytes that are no UTF-8, or a line's end, which no table and no JSON could hold
        raise DataError(f"{what}: class {unprintable[0]!r}: a name that cannot be printed; rename its folder or label")
    numbers = isinstance(bounds, list | tuple) and all(isinstance(each, int | float | np.number) for each in bounds)
    if not numbers or len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise DataError(f"{what}: bounds is {bounds!r}; expected (lo, hi), e.g. (0.0, 1.0)")
    if rate is not None and (not isinstance(rate, int | np.integer) or isinstance(rate, bool) or rate < 1):
        raise DataError(f"{what}: sample_rate is {rate!r}; expected values a second, or None")
    rows = arrays.validation
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"{what}: validation has dtype {rows.dtype} and shape {rows.shape}; expected rows of x_train")
    if len(rows) and (rows.min() < 0 or rows.max() >= len(arrays.x_train) or len(np.unique(rows)) < len(rows)):
        raise DataError(f"{what}: validation names rows twice, or beyond the {len(arrays.x_train)} of x_train")
    low, high = (float(each) for each in bounds)
    whole = None if rate is None else int(rate)
    return replace(arrays, origin=str(arrays.origin), class_names=tuple(names), bounds=(low, high), sample_rate=whole)


def check_arrays(arrays: Arrays, *, unlabelled: bool = False) -> int:
    """Check a data set.

    Args:
        arrays: what a source gave.
        unlabelled: do not look at the training labels; class names or test labels say how many classes there are.

    Returns:
        The number of classes K.

    Raises:
        DataError: pixels or labels of a wrong type, shape or range, lengths that differ, or a class without samples.
    """
    where = arrays.origin
    for x_name, y_name in (("x_train", "y_train"), ("x_test", "y_test")):
        images, labels = getattr(arrays, x_name), getattr(arrays, y_name)
        if not (unlabelled and y_name == "y_train"):
            _check_labels(labels, f"{where}: {y_name}")
        _check_shape(images, f"{where}: {x_name}")
        if len(images) != len(labels):
            raise DataError(f"{where}: {x_name} has {len(images)} samples, {y_name} has {len(labels)}; make them match")
        _check_values(images, f"{where}: {x_name}", arrays.bounds)
    _check_same_form(arrays)
    return _check_classes(arrays, "y_test" if unlabelled else "y_train")


def _check_shape(images: Pixels, key: str) -> None:
    if len(images.shape) < 2:
        raise DataError(f"{key} has shape {images.shape}; expected (samples, channels, height, width)")
    if images.shape[0] == 0:
        raise DataError(f"{key} holds no samples; store at least a few of every class")
    if 0 in images.shape:
        raise DataError(f"{key} has shape {images.shape}: images without pixels; store at least one pixel each")


def _check_values(images: Pixels, key: str, bounds: tuple[float, float]) -> None:
    kind = images.dtype
    pixels = bounds == (0.0, 1.0)
    if kind == np.uint8 and pixels:
        return
    if not np.issubdtype(kind, np.floating):
        accepted = "uint8 in 0..255 or " if pixels else ""
        raise DataError(f"{key} has dtype {kind}; store {accepted}floating point in [{bounds[0]:g}, {bounds[1]:g}]")
    low, high = np.inf, -np.inf
    for start in range(0, len(images), _CHUNK):
        chunk = images[np.arange(start, min(start + _CHUNK, len(images)))]
        finite = np.isfinite(chunk)
        if not finite.all():
            place = start + int(np.argwhere(~finite)[0][0])
            raise DataError(
                f"{key} holds NaN or infinite pixels (first in sample {place}); remove or repair those samples"
            )
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    if not pixels:
        if low < bounds[0] or high > bounds[1]:
            raise DataError(
                f"{key} holds values from {low:g} to {high:g}, expected [{bounds[0]:g}, {bounds[1]:g}]; scale them"
            )
        return
    if high > 1 and low >= 0 and high <= 255:
        raise DataError(f"{key} holds pixels up to {high:g}, expected [0, 1]; divide by 255 or store uint8")
    if low < 0 or high > 1:
        raise DataError(
            f"{key} holds pixels from {low:g} to {high:g}, expected [0, 1]; undo the normalisation (it belongs in the "
            "model: normalize=true)"
        )


def _check_labels(labels: npt.NDArray[Any], key: str) -> None:
    if labels.ndim != 1:
        raise DataError(f"{key} has shape {labels.shape}, expected one number a sample; flatten it or take the argmax")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{key} has dtype {labels.dtype}; store labels as integers 0 .. K-1")
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{key} holds the label {int(labels.min())}; number the classes 0 .. K-1")


def _check_same_form(arrays: Arrays) -> None:
    train, test = arrays.x_train, arrays.x_test
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{arrays.origin}: x_train has images of shape {tuple(train.shape[1:])}, "
            f"x_test of {tuple(test.shape[1:])}; make them match"
        )
    if (train.dtype == np.uint8) != (test.dtype == np.uint8):
        raise DataError(
            f"{arrays.origin}: x_train is {train.dtype}, x_test is {test.dtype}; store both as the same type"
        )


def _check_classes(arrays: Arrays, counted: str) -> int:
    where, known = arrays.origin, getattr(arrays, counted)
    highest = int(known.max())
    # without names these labels say how many classes there are; a stray label must not allocate gigabytes
    if not arrays.class_names and highest >= len(known):
        raise DataError(f"{where}: {counted} holds the label {highest}; number the classes 0 .. K-1")
    classes = len(arrays.class_names) or highest + 1
    if classes < 2:
        raise DataError(f"{where}: {counted} holds one class only; a classifier needs two")
    for key in dict.fromkeys((counted, "y_test")):
        labels = getattr(arrays, key)
        if int(labels.max()) >= classes:
            raise DataError(
                f"{where}: {key} holds the label {int(labels.max())}, but there are {classes} classes "
                f"(0 .. {classes - 1}); correct the labels"
            )
        empty = np.flatnonzero(np.bincount(labels.astype(np.int64), minlength=classes) == 0)
        if len(empty):
            names = [arrays.class_names[number] if arrays.class_names else str(number) for number in empty[:5]]
            more = ", ..." if len(empty) > 5 else ""
            raise DataError(
                f"{where}: no sample of class {', '.join(names)}{more} in {key}; "
                "add some, or remove the class from both sets"
            )
    return classes
