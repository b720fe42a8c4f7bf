"""A data set, every sample of it passed through a transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kdrobust.data.arrays import Arrays
from kdrobust.data.splits import to_unit
from kdrobust.errors import DataError, UsageError
from kdrobust.randomness import address
from kdrobust.spec import InputSpec

_CHUNK = 1024


def build_transform(factory: Callable[..., nn.Module], spec: InputSpec, key: str) -> nn.Module:
    """The transform of samples of a spec; its own `spec` says what comes out.

    Args:
        factory: makes it, called with `spec=`.
        spec: of what goes in.
        key: where the config names it, for errors.

    Raises:
        UsageError: samples it is not for, or a value out of its range; one line with the key.
    """
    try:
        return factory(spec=spec)
    except (UsageError, DataError, ValueError) as error:
        raise UsageError(f"{key}: {error}") from None


def transformed(arrays: Arrays, factory: Callable[..., nn.Module], classes: int) -> Arrays:
    """The same data set after a transform, as float32 in memory (also what its source keeps in files); labels stay.

    Args:
        arrays: checked.
        factory: makes the transform, called with `spec=`.
        classes: K.

    Raises:
        UsageError: samples it is not for, or a value out of its range.
    """
    spec = InputSpec(
        shape=tuple(int(side) for side in arrays.x_train.shape[1:]),
        classes=classes,
        class_names=arrays.class_names,
        bounds=arrays.bounds,
        sample_rate=arrays.sample_rate,
        peak=arrays.peak,
    )
    transform = build_transform(factory, spec, "data.transform")

    @torch.no_grad()
    def passed(images: Any, split: str) -> npt.NDArray[Any]:
        chunks = []
        for places in torch.split(torch.arange(len(images)), _CHUNK):
            inputs = to_unit(torch.from_numpy(np.ascontiguousarray(images[places.numpy()])))
            # training and test samples of the same place get draws of their own
            keys = places + address(0, f"transform/{split}") % 2**40
            chunks.append(transform(inputs, keys).numpy())
        return np.concatenate(chunks)

    given: Any = transform.spec
    return replace(
        arrays,
        x_train=passed(arrays.x_train, "train"),
        x_test=passed(arrays.x_test, "test"),
        bounds=given.bounds,
        sample_rate=given.sample_rate,
        peak=given.peak,
    )
