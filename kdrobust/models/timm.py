"""Any architecture of the timm library, by its name there."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from kdrobust.errors import UsageError
from kdrobust.models.convnet import image_shape
from kdrobust.spec import InputSpec


def timm_library(name: str, *, key: str) -> ModuleType:
    """The timm package, if it is there and knows a model.

    Args:
        name: the model.
        key: the config key that names it.

    Raises:
        UsageError: timm is not installed, or knows no model of that name.
    """
    try:
        import timm
    except ImportError:
        raise UsageError("timm is not installed; pip install 'kdrobust[timm]'") from None
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UsageError(f"{key}={name}: timm has no such model; near: {', '.join(near) or 'none'}")
    return timm


class Timm(nn.Module):
    """A timm model with the data's channels and classes.

    Args:
        spec: the data's shape and classes.
        name: timm's name, e.g. `resnet18`.
        pretrained: start from timm's weights (needs a network).
        options: further arguments of `timm.create_model`.

    Raises:
        UsageError: timm is not installed, or knows no model of that name.
    """

    def __init__(
        self, *, spec: InputSpec, name: str, pretrained: bool = False, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        timm = timm_library(name, key="network.name")
        channels, _, _ = image_shape(spec, "Timm")
        self.network = timm.create_model(
            name, pretrained=pretrained, in_chans=channels, num_classes=spec.classes, **(options or {})
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of images [B, C, H, W]."""
        logits: Tensor = self.network(inputs)
        return logits
