from __future__ import annotations

from typing import Any

import pytest

from kdrobust.models import MLP, ConvNet
from kdrobust.models.keywords import DSCNN, SpectrogramCNN
from kdrobust.models.mobilenet import MobileNetV2
from kdrobust.models.resnet import PreActResNet, ResNet, WideResNet
from kdrobust.models.sizes import NetworkSizeError, require_counts, require_factors
from kdrobust.models.waveform import WaveformCNN
from kdrobust.spec import InputSpec

IMAGES = InputSpec(shape=(3, 16, 16), classes=4)
SOUND = InputSpec(shape=(1, 8000), classes=4)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3", [0], [2, -1], [], [True], [1.0], ["2"]])
def test_no_count(value: Any) -> None:
    with pytest.raises(NetworkSizeError, match=r"^channels=.* of at least 1$"):
        require_counts(channels=value)


def test_counts() -> None:
    require_counts(a=1, b=[1, 2], c=(3,), d=None)
    require_counts(a=0, b=[], empty=["a", "b"])
    with pytest.raises(NetworkSizeError, match="a=-1: expected a whole number of at least 0"):
        require_counts(a=-1, empty=["a"])
    with pytest.raises(NetworkSizeError):
        require_counts(b=[0], empty=["b"])


@pytest.mark.parametrize("value", [0, -0.5, float("nan"), float("inf"), True])
def test_no_factor(value: Any) -> None:
    with pytest.raises(NetworkSizeError, match="larger than 0"):
        require_factors(width=value)


@pytest.mark.parametrize(
    ("network", "spec", "argument"),
    [
        (MLP, IMAGES, {"hidden": [8, 0]}),
        (ConvNet, IMAGES, {"channels": [-1]}),
        (ConvNet, IMAGES, {"channels": []}),
        (ConvNet, IMAGES, {"hidden": -1}),
        (ConvNet, IMAGES, {"width": 0}),
        (ResNet, IMAGES, {"blocks": [1, 0]}),
        (ResNet, IMAGES, {"blocks": [1] * 5}),
        (ResNet, IMAGES, {"stem": 0}),
        (ResNet, IMAGES, {"width": -1}),
        (PreActResNet, IMAGES, {"blocks": []}),
        (WideResNet, IMAGES, {"widen": 0}),
        (WideResNet, IMAGES, {"depth": 11}),
        (MobileNetV2, IMAGES, {"width": 0}),
        (SpectrogramCNN, SOUND, {"channels": [0]}),
        (DSCNN, SOUND, {"blocks": 0}),
        (DSCNN, SOUND, {"channels": -3}),
        (WaveformCNN, SOUND, {"channels": [4, 0]}),
        (WaveformCNN, SOUND, {"strides": [0, 4]}),
    ],
)
def test_a_network_of_no_size_is_refused(network: Any, spec: InputSpec, argument: dict[str, Any]) -> None:
    """Before: fewer channels than one became one, an empty layer was trained, or torch stumbled."""
    with pytest.raises(NetworkSizeError, match=f"^{next(iter(argument))}="):
        network(spec=spec, **argument)
