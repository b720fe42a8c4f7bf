"""The normalising classifier and its taps."""

from functools import partial

import pytest
import torch

from kdrobust.errors import DataError, UsageError
from kdrobust.models import MLP, Classifier, ConvNet, FeatureTaps, build_classifier
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(3, 8, 8), classes=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
IMAGES = torch.rand(5, 3, 8, 8)


def test_normalisation_equals_manual():
    model = build_classifier(ConvNet, spec=SPEC, normalize=True)
    manual = torch.stack([(IMAGES[:, c] - SPEC.mean[c]) / SPEC.std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(IMAGES), model.network(manual))
    plain = build_classifier(ConvNet, spec=SPEC)
    assert torch.equal(plain(IMAGES), plain.network(IMAGES))


def test_normalisation_needs_statistics():
    spec = InputSpec(shape=(3, 8, 8), classes=4)
    with pytest.raises(DataError, match="normalize=false"):
        Classifier(MLP(spec=spec), spec=spec, normalize=True)


def test_seeds():
    make, before = partial(build_classifier, ConvNet, spec=SPEC), torch.get_rng_state()
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one(IMAGES), same(IMAGES))
    assert not torch.equal(one(IMAGES), other(IMAGES))


def test_taps_collect_and_go():
    model = build_classifier(ConvNet, spec=SPEC)
    with FeatureTaps(model, ["network.features", "network.head"]) as taps:
        logits = model(IMAGES)
    assert taps.outputs["network.head"] is logits
    assert len(taps.outputs["network.features"]) == 5
    model(IMAGES + 1)
    assert taps.outputs["network.head"] is logits
    assert not any(module._forward_hooks for module in model.modules())


def test_taps_go_after_an_exception():
    model = build_classifier(ConvNet, spec=SPEC)
    with pytest.raises(RuntimeError, match="boom"), FeatureTaps(model, ["network.head"]):
        raise RuntimeError("boom")
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_path_names_near_ones():
    with pytest.raises(UsageError, match=r"network\.featurs.*near: features"):
        FeatureTaps(build_classifier(ConvNet, spec=SPEC), ["network.featurs"])
