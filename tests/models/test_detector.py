"""The detector's network: what it sees, what stays frozen, and how it comes back from its checkpoint."""

import pytest
import torch

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models import Detector, build_classifier, restore_classifier
from kdrobust.spec import InputSpec
from tests import detectors

SPEC = InputSpec(shape=(1, 8, 8), classes=2, class_names=("clean", "attacked"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return detectors.save_classifier(tmp_path_factory.mktemp("classifier") / "best.ckpt")


def built(classifier, seed=0, **more):
    given = {"classifier": str(classifier), "pixels": (4, 8), "hidden": 6, "width": 5, **more}
    return build_classifier(lambda spec: Detector(spec=spec, **given), spec=SPEC, seed=seed)


def inputs(n=6):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("more", "known"),
    [
        ({}, 10),
        ({"logits": False}, 0),
        ({"features": ["features.1"]}, 10 + 24),
        ({"features": ["features.1"], "logits": False, "pixels": ()}, 24),
        ({"pixels": ()}, 10),
    ],
)
def test_it_sees_what_it_is_told_to(classifier, more, known):
    model = built(classifier, **more)
    assert model(inputs()).shape == (6, 2)
    pixels = 5 if more.get("pixels", True) else 0
    assert model.network.head[0].in_features == known + pixels
    if not known:
        assert model.network.scale is None


def test_maps_are_pooled(tmp_path):
    data = detectors.digits()
    from kdrobust.models.convnet import ConvNet

    inner = build_classifier(lambda spec: ConvNet(spec=spec, channels=(3, 4)), spec=data.spec)
    network = {"_target_": "kdrobust.models.ConvNet", "channels": [3, 4]}
    path = detectors.save(inner, tmp_path / "best.ckpt", network, data.spec)
    model = built(path, features=["features.0"], logits=False)
    assert model.network.head[0].in_features == 5 + 2 * 3
    assert model(inputs()).shape == (6, 2)


def test_the_classifier_is_frozen_and_in_eval_mode_but_gradients_pass(classifier):
    model = built(classifier, pixels=()).train()
    network = model.network
    assert network.training
    assert not any(module.training for module in network.classifier.modules())
    before = {name: value.clone() for name, value in network.classifier.state_dict().items()}
    detectors.train(model, inputs(8), torch.tensor([0, 1] * 4), 3)
    assert all(torch.equal(value, before[name]) for name, value in network.classifier.state_dict().items())
    point = inputs().requires_grad_(True)
    model(point).sum().backward()
    assert float(point.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in network.classifier.parameters())


def test_its_checkpoint_rebuilds_it_with_the_classifier_it_was_trained_with(classifier, tmp_path):
    model = built(classifier, features=["features.1"]).eval()
    network = {
        "_target_": "kdrobust.models.Detector", "classifier": str(classifier), "pixels": [4, 8], "hidden": 6, "width": 5,
        "features": ["features.1"],
    }  # fmt: skip
    path = detectors.save(model, tmp_path / "best.ckpt", network, SPEC)
    assert torch.equal(restore_classifier(path).eval()(inputs()), model(inputs()))
    network["classifier"] = str(detectors.save_classifier(tmp_path / "other.ckpt", seed=9))
    path = detectors.save(model, tmp_path / "best.ckpt", network, SPEC)
    # another file of the same architecture changes nothing: the weights are the detector's own
    assert torch.equal(restore_classifier(path).eval()(inputs()), model(inputs()))
    network["classifier"] = str(detectors.save_classifier(tmp_path / "wide.ckpt", hidden=(7,)))
    with pytest.raises(CheckpointError, match="checkpoint of another model"):
        restore_classifier(detectors.save(model, tmp_path / "best.ckpt", network, SPEC))


def test_mistakes(classifier, tmp_path):
    with pytest.raises(UsageError, match="a detector looks at something: set pixels, logits or features"):
        built(classifier, pixels=(), logits=False)
    with pytest.raises(UsageError, match=r"network.features: \(classifier\) layer9: the model has no such module"):
        built(classifier, features=["layer9"])
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        built(tmp_path / "none.ckpt")
    wide = InputSpec(shape=(1, 28, 28), classes=2)
    with pytest.raises(CheckpointError, match=r"the model takes inputs \(1, 8, 8\), the data are \(1, 28, 28\)"):
        Detector(spec=wide, classifier=str(classifier))
