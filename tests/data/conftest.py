"""Small data sets: a source in memory, and a module on top of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdrobust.data import Arrays, DataModule


class Toy:
    """Noise images, classes of unequal sizes."""

    def __init__(self, *, counts=(40, 30, 20), test=6, shape=(3, 5, 4), seed=0, dtype=np.uint8):
        draw = np.random.default_rng(seed)
        self.loads = 0
        y_train = np.repeat(np.arange(len(counts)), counts)
        y_test = np.repeat(np.arange(len(counts)), test)
        images = [draw.integers(0, 256, (len(y), *shape)).astype(np.uint8) for y in (y_train, y_test)]
        if dtype != np.uint8:
            images = [(x / 255).astype(dtype) for x in images]
        self.fields: dict[str, Any] = {
            "x_train": images[0],
            "y_train": y_train,
            "x_test": images[1],
            "y_test": y_test,
            "origin": "toy",
        }

    def load(self, root: Path) -> Arrays:
        self.loads += 1
        return Arrays(**self.fields)


@pytest.fixture
def toy() -> Callable[..., Toy]:
    return Toy


@pytest.fixture
def module() -> Callable[..., DataModule]:
    def make(source: Any = None, **given: Any) -> DataModule:
        return DataModule(source=source or Toy(), **{"name": "toy", "batch_size": 8, "eval_batch_size": 7, **given})

    return make
