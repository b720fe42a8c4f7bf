"""The data set of clean and attacked inputs: whose they are, what is kept, and what is refused."""

import pytest
import torch

from kdrobust.errors import CheckpointError, DataError, UsageError
from kdrobust.models import restore_classifier
from tests import detectors


def test_clean_are_the_samples_and_their_shifts_attacked_what_fools_the_surrogate(place, pairs):
    inner = pairs.source.data
    for name in ("train", "validation", "test"):
        split = pairs.split(name)
        count = len(inner.split(name))
        # as they are, and blurred at two severities
        assert int((split.labels == 0).sum()) == 3 * count
        attacked = int((split.labels == 1).sum())
        assert count / 4 < attacked <= 2 * count, name
    surrogate = restore_classifier(place / "surrogate" / "best.ckpt").eval()
    test = pairs.split("test")
    wrong = test.pixels(torch.nonzero(test.labels == 1).flatten())
    clean = inner.split("test").pixels(torch.arange(60))
    distance = (wrong[:, None] - clean[None]).abs().flatten(2).amax(dim=2).amin(dim=1)
    assert float(distance.max()) <= 0.25 + 1e-6
    assert float(distance.min()) > 0.01
    with torch.no_grad():
        right = surrogate(clean).argmax(dim=1) == inner.split("test").labels
    assert float(right.float().mean()) > 0.8


def test_no_validation_image_is_trained_on(pairs):
    inner = pairs.source.data
    clean = {name: inner.split(name).pixels(torch.arange(len(inner.split(name)))) for name in ("train", "validation")}
    for name, other in (("train", "validation"), ("validation", "train")):
        split = pairs.split(name)
        own = split.pixels(torch.nonzero(split.labels == 0).flatten())
        found = {tuple(row.flatten().tolist()) for row in own}
        assert all(tuple(row.flatten().tolist()) in found for row in clean[name])
        assert not any(tuple(row.flatten().tolist()) in found for row in clean[other])


def test_it_is_the_same_data_set_again(place, pairs):
    again = detectors.pairs_of(place)
    assert again.fingerprint == pairs.fingerprint
    assert again.spec.class_names == ("clean", "attacked")
    other = detectors.pairs_of(place, attacks={"fgsm": detectors.attack(0.2, 1)})
    assert other.fingerprint != pairs.fingerprint


def test_it_says_what_it_is_made_of(pairs):
    told = pairs.source.describe()
    assert told["data"] == "digits"
    assert set(told["attacks"]) == {"fgsm", "pgd"}
    assert told["attacks"]["pgd"]["threat"]["eps"] == 0.25
    assert len(told["surrogate"]["sha256"]) == 64
    assert told["shifts"] == {"names": ["gaussian_blur"], "severities": [1, 3]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"attacks": {}}, "data.source.attacks: none given"),
        ({"surrogate": "a.ckpt", "classifier": "a.ckpt"}, "data.source.surrogate: is the protected classifier"),
        ({"shifts": {"names": ["rain"]}}, "data.source.shifts: no corruption 'rain'"),
        ({"shifts": {"names": ["fog"], "severities": [7]}}, "data.source.shifts: 7 is not one of"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(place, more, words):
    with pytest.raises(UsageError, match=words):
        detectors.source(place, **more)


def test_files_that_are_not_there_or_of_other_data(place, tmp_path):
    with pytest.raises(UsageError, match=r"data.source.surrogate=.*none.ckpt: no such checkpoint; train one with"):
        detectors.source(place, surrogate=str(tmp_path / "none.ckpt")).load(tmp_path)
    with pytest.raises(CheckpointError, match="the model has 2 classes, the data have 10"):
        detectors.source(place, surrogate=str(place / "detector" / "best.ckpt")).load(tmp_path)
    inner = detectors.digits()
    inner.prepare()
    object.__setattr__(inner._spec, "shape", (1, 64))
    with pytest.raises(DataError, match="a detector takes images"):
        detectors.source(place, data=inner).load(tmp_path)
