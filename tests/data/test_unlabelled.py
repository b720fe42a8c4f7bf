"""Data without their training labels, and data passed through a transform."""

import functools

import numpy as np
import pytest
import torch

from kdrobust.data import Arrays, DataModule
from kdrobust.data.batch import UNKNOWN
from kdrobust.errors import DataError, UsageError
from kdrobust.transforms import Corrupt, Resize, Spectrogram


class Given:
    """Sixty images of three classes, their training labels in a given order."""

    def __init__(self, order=None, **changes):
        generator = np.random.default_rng(0)
        labels = np.arange(60) % 3
        fields = {
            "x_train": generator.integers(0, 256, (60, 1, 8, 10), dtype=np.uint8),
            "y_train": labels if order is None else labels[order],
            "x_test": generator.integers(0, 256, (9, 1, 8, 10), dtype=np.uint8),
            "y_test": np.arange(9) % 3,
            "origin": "made up",
        }
        self.arrays = Arrays(**{**fields, **changes})

    def load(self, root):
        return self.arrays


def module(source, **changes):
    return DataModule(source=source, name="given", batch_size=16, **changes)


def test_nothing_follows_the_labels():
    shuffled = np.random.default_rng(1).permutation(60)
    first, second = (module(Given(order), unlabelled=True, limit_train=20) for order in (None, shuffled))
    assert first.fingerprint == second.fingerprint
    for split in ("train", "validation"):
        assert torch.equal(first.split(split).rows, second.split(split).rows)
        assert set(first.split(split).labels.tolist()) == {UNKNOWN}
    assert first.split("test").labels.tolist() == [0, 1, 2] * 3
    assert (len(first.split("train")), len(first.split("validation"))) == (20, 6)
    # with labels they do: the splits hold every class in proportion
    assert module(Given()).fingerprint != module(Given(shuffled)).fingerprint


def test_labels_need_not_be_any():
    data = module(Given(y_train=np.full(60, -7.5)), unlabelled=True)
    assert data.spec.classes == 3
    data = module(Given(y_train=np.zeros(60, dtype=np.int64), class_names=("a", "b", "c")), unlabelled=True)
    assert data.spec.class_names == ("a", "b", "c")


def test_test_labels_still_count():
    with pytest.raises(DataError, match="y_test holds one class only"):
        module(Given(y_test=np.zeros(9, dtype=np.int64)), unlabelled=True).prepare()
    with pytest.raises(DataError, match="no sample of class 2 in y_test"):
        module(Given(y_test=np.array([0, 1, 3] * 3)), unlabelled=True).prepare()


def test_a_transform_comes_before_everything():
    data = module(Given(), transform=functools.partial(Resize, size=4))
    assert data.spec.shape == (1, 4, 4)
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (16, 1, 4, 4)
    assert batch.inputs.dtype == torch.float32
    assert len(data.spec.mean) == 1
    assert data.fingerprint != module(Given()).fingerprint


def test_samples_of_both_sets_get_noise_of_their_own():
    grey = np.full((60, 1, 8, 10), 128, dtype=np.uint8)
    source = Given(x_train=grey, x_test=grey[:9])
    noisy = module(source, transform=functools.partial(Corrupt, name="gaussian_noise"))
    train, test = noisy.split("train"), noisy.split("test").inputs
    assert len({tuple(image.flatten().tolist()) for image in torch.cat([train.inputs, test])}) == len(train) + 9
    again = module(source, transform=functools.partial(Corrupt, name="gaussian_noise"), eval_batch_size=3)
    assert again.fingerprint == noisy.fingerprint


def test_a_transform_for_other_data():
    with pytest.raises(UsageError, match=r"^data\.transform: LogMel: needs waveforms"):
        module(Given(), transform=Spectrogram).prepare()
