"""Small forms of the networks of conf/model, and which of their modules have maps that features can be read from."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.config.kinds import NETWORK
from kdrobust.errors import DataError
from kdrobust.spec import InputSpec
from tests.combinations.scanning import read

SOUND = InputSpec(shape=(1, 2000), classes=10, mean=(0.0,), std=(1.0,), bounds=(-1.0, 1.0), sample_rate=8000)
IMAGE = InputSpec(shape=(1, 8, 8), classes=10, mean=(0.5,), std=(0.5,))
#: timm's own networks for tests
_TIMM = "test_efficientnet"


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is known of a small network.

    Attributes:
        changed: the arguments that make it small, by name; `+NAME` where conf/model leaves them to the class.
        takes: `image`, `sound`, or both.
        normalised: whether it has batch norm.
        maps: path of the last module with maps [B, C, H, W]; empty where there is none.
        layer: path of the last module but the classifying one.
    """

    changed: Mapping[str, Any]
    takes: frozenset[str]
    normalised: bool
    maps: str
    layer: str

    def typed(self, node: str) -> tuple[str, ...]:
        """The lines of a command that make the network of a node small."""
        return tuple(
            f"{'+' * key.startswith('+')}{node}.network.{key.lstrip('+')}={str(value).replace(' ', '')}"
            for key, value in self.changed.items()
        )


def small(node: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a network that are changed to make it small: a tiny run is about paths, not about accuracy."""
    changed: dict[str, Any] = {}
    if node.get("name") == "???":
        changed["name"] = _TIMM
    if "depth" in node:
        # the shallowest of its kind: 6 n + 4 layers
        changed |= {"depth": 10, "widen": 1}
    if isinstance(node.get("blocks"), list):
        changed |= {"blocks": [1] * len(node["blocks"]), "width" if "width" in node else "+width": 0.07}
        changed |= {"stem": 4} if "stem" in node else {}
    elif isinstance(node.get("blocks"), int):
        changed |= {"blocks": 1, "channels": max(1, node["channels"] // 8)}
    elif "width" in node:
        changed["width"] = 0.25
    elif isinstance(node.get("channels"), list):
        changed["channels"] = [max(2, each // 16) for each in node["channels"]]
    return changed


@functools.cache
def network(option: str) -> Network | None:
    """A network of conf/model made small; None where one of its arguments comes from elsewhere in the config."""
    node = dict(read("model", option)["network"])
    if any(isinstance(value, str) and value.startswith("${") for value in node.values()):
        return None
    changed = small(node)
    given = {**node, **{key.lstrip("+"): value for key, value in changed.items()}}
    arguments = {key: value for key, value in given.items() if not key.startswith("_")}
    built: dict[str, nn.Module] = {}
    for name, spec in (("image", IMAGE), ("sound", SOUND)):
        try:
            built[name] = NETWORK.find(node["_target_"])(spec=spec, **arguments)
        except DataError:
            continue
    assert built, option
    name, model = next(iter(built.items()))
    shapes = _shapes(model.eval(), IMAGE if name == "image" else SOUND)
    inner = list(shapes)[:-1]
    maps = [path for path in inner if len(shapes[path]) == 4 and math.prod(shapes[path][2:]) > 1]
    return Network(
        changed=changed,
        takes=frozenset(built),
        normalised=any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
        maps=maps[-1] if maps else "",
        layer=inner[-1],
    )


def _shapes(model: nn.Module, spec: InputSpec) -> dict[str, tuple[int, ...]]:
    """Module path to the shape of its output, in the order of the forward pass; containers of the whole are left out."""
    found: dict[str, tuple[int, ...]] = {}

    def hook(path: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[path] = tuple(output.shape)

        return keep

    handles = [module.register_forward_hook(hook(path)) for path, module in model.named_modules() if path]
    with torch.no_grad():
        model(torch.zeros(2, *spec.shape))
    for handle in handles:
        handle.remove()
    return found
