"""Which samples are training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from kdrobust.data.arrays import Arrays
from kdrobust.data.splits import IntArray, shuffled, stratified
from kdrobust.errors import DataError, UsageError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def partition(
    arrays: Arrays, *, fraction: float, limits: Mapping[str, int | None], seed: int, classes: int
) -> dict[SplitName, IntArray]:
    """Choose the rows of each split.

    Training and validation are disjoint parts of the training set, in a seeded order: as the source itself parts them,
    or else each with every class in its proportion and at least one sample of each. The test set keeps its order.
    Limits choose from what each split would be without them.

    Args:
        arrays: checked arrays.
        fraction: share of the training set that becomes validation, in (0, 1), where the source sets none aside.
        limits: `limit_train`, `limit_validation`, `limit_test`: at most so many samples; None: all.
        seed: addresses the choices and the orders.
        classes: K.

    Returns:
        Split to rows of `x_train` (train, validation) or `x_test` (test).

    Raises:
        DataError: a class with fewer than two training samples, or with none beside those set aside.
        UsageError: `limit_train` below the number of classes.
    """
    labels = arrays.y_train.astype(np.int64)
    counts = np.bincount(labels, minlength=classes)
    if counts.min() < 2:
        scarce = int(counts.argmin())
        name = arrays.class_names[scarce] if arrays.class_names else str(scarce)
        raise DataError(
            f"{arrays.origin}: class {name} has one sample in y_train, and training and validation need one each; "
            "add some, or remove the class"
        )
    limit = limits.get("limit_train")
    if limit is not None and limit < classes:
        raise UsageError(f"data.limit_train: {limit} samples cannot hold {classes} classes; set at least {classes}")
    if len(arrays.validation):
        validation = arrays.validation.astype(np.int64)
    else:
        total = round(len(labels) * fraction)
        validation = stratified(labels, total, seed=seed, purpose="validation", least=1, spare=1)
    rest = np.setdiff1d(np.arange(len(labels)), validation)
    if len(missing := np.setdiff1d(np.arange(classes), labels[rest])):
        name = arrays.class_names[missing[0]] if arrays.class_names else str(missing[0])
        raise DataError(f"{arrays.origin}: every training sample of class {name} is set aside for validation")
    rows: dict[SplitName, IntArray] = {
        "train": shuffled(rest, seed=seed, purpose="order/train"),
        "validation": shuffled(validation, seed=seed, purpose="order/validation"),
        "test": np.arange(len(arrays.y_test)),
    }
    for split in SPLITS:
        most = limits.get(f"limit_{split}")
        if most is not None and most < len(rows[split]):
            own = (arrays.y_test if split == "test" else labels)[rows[split]].astype(np.int64)
            least = 1 if split == "train" else 0
            rows[split] = rows[split][stratified(own, most, seed=seed, purpose=f"limit/{split}", least=least)]
    return rows
