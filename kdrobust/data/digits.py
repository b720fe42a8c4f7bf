"""scikit-learn's handwritten digits: real data that comes with a dependency."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from kdrobust.data.arrays import Arrays
from kdrobust.data.splits import shuffled, stratified


class Digits:
    """1,797 grey 8×8 digits, 174 to 183 a class; pixels are k/16, k = 0 .. 16, kept exactly as float32.

    (As uint8 they would not be: 255/16 is no integer.) An ε below 1/32 is under half a grey level. They are the test
    half of UCI's "Optical Recognition of Handwritten Digits" (13 writers); writers are not marked, so that a random
    split has the same ones in training and test.

    Args:
        test_fraction: share of the samples held out as the test set, rounded up, in (0, 1); 0.3 gives 1,257 / 540.
        split_seed: addresses the choice of the test set. Not the run's seed: runs of several seeds must share a test
            set, or one run's teacher has trained on another one's test samples.

    Raises:
        ValueError: a test fraction outside (0, 1).
    """

    def __init__(self, *, test_fraction: float = 0.3, split_seed: int = 0) -> None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction: expected a number between 0 and 1, got {test_fraction}")
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def load(self, root: Path) -> Arrays:
        """Read and split them; nothing is downloaded, `root` is not looked at."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
        labels = labels.astype(np.int64)
        count = min(math.ceil(len(labels) * self.test_fraction), len(labels) - 1)
        test = stratified(labels, count, seed=self.split_seed, purpose="digits/test", least=1, spare=1)
        train = np.setdiff1d(np.arange(len(labels)), test)
        test = shuffled(test, seed=self.split_seed, purpose="digits/order")
        return Arrays(
            x_train=pixels[train],
            y_train=labels[train],
            x_test=pixels[test],
            y_test=labels[test],
            origin="scikit-learn digits",
            class_names=tuple(str(number) for number in range(10)),
        )
