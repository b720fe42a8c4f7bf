"""Architectures: published sizes, shapes, gradients, errors."""

import pytest
import torch

from kdrobust.errors import DataError, UsageError
from kdrobust.models import MLP, ConvNet, MobileNetV2, PreActResNet, ResNet, Timm, WideResNet
from kdrobust.spec import InputSpec

CIFAR = InputSpec(shape=(3, 32, 32), classes=10)
SMALL = [
    (MLP, {}),
    (ConvNet, {}),
    (ResNet, {"width": 0.125}),
    (PreActResNet, {"width": 0.125}),
    (MobileNetV2, {"width": 0.25}),
    (WideResNet, {"depth": 10, "widen": 1}),
]


@pytest.mark.parametrize(
    ("network", "options", "millions"),
    [
        (ResNet, {}, 11.17),
        (PreActResNet, {}, 11.17),
        (MobileNetV2, {}, 2.24),
        (WideResNet, {"depth": 34, "widen": 10}, 46.16),
        (WideResNet, {"depth": 28, "widen": 10}, 36.48),
        (WideResNet, {"depth": 16, "widen": 4}, 2.75),
        (WideResNet, {"depth": 40, "widen": 2}, 2.24),
        (ResNet, {"blocks": (3, 3, 3), "width": 0.25}, 0.27),
        (ResNet, {"blocks": (9, 9, 9), "width": 0.25}, 0.86),
        (ResNet, {"blocks": (5, 5, 5), "stem": 32}, 7.41),
    ],
)
def test_published_parameter_counts(network, options, millions):
    with torch.device("meta"):
        model = network(spec=CIFAR, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_stem_is_as_wide_as_the_first_stage_unless_given():
    assert ResNet(spec=CIFAR, blocks=(1, 1, 1), width=0.25).stem[0].out_channels == 16
    narrow = ResNet(spec=CIFAR, blocks=(1, 1, 1), stem=32)
    assert [narrow.stem[0].out_channels, narrow.head.in_features] == [32, 256]


@pytest.mark.parametrize("network", [ResNet(spec=CIFAR, width=0.125), WideResNet(spec=CIFAR, depth=10, widen=1)])
def test_the_pooled_vector_can_be_tapped(network):
    seen = {}
    network.get_submodule("pool").register_forward_hook(lambda module, inputs, output: seen.update(pooled=output))
    logits = network.eval()(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(network.head(seen["pooled"]), logits, rtol=0, atol=0)
    assert not [name for name in network.state_dict() if name.startswith("pool")]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize(("network", "options"), SMALL)
def test_shapes_and_gradients(network, options, shape):
    torch.manual_seed(0)
    model = network(spec=InputSpec(shape=shape, classes=7), **options)
    logits = model(torch.rand(4, *shape))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not silent


@pytest.mark.parametrize(("network", "options"), SMALL[1:])
def test_images_are_needed(network, options):
    with pytest.raises(DataError, match="images"):
        network(spec=InputSpec(shape=(20,), classes=2), **options)


def test_other_errors():
    with pytest.raises(UsageError, match=r"depth=11: .* 6 n"):
        WideResNet(spec=CIFAR, depth=11)
    with pytest.raises(DataError, match="pixels"):
        ConvNet(spec=InputSpec(shape=(1, 2, 2), classes=2), channels=[4, 4, 4, 4])
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="resnet18"):
        Timm(spec=CIFAR, name="resnet188")
