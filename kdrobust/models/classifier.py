"""The classifier every other room sees: pixels in [0, 1] in, logits out, normalisation inside."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.errors import DataError, UsageError
from kdrobust.randomness import address
from kdrobust.spec import InputSpec


class Normalize(nn.Module):
    """(x - mean) / std a channel.

    Args:
        mean: per channel, in [0, 1].
        std: per channel, positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1).clamp(min=1e-6))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised [B, C, H, W]."""
        return (inputs - self.mean) / self.std


class Classifier(nn.Module):
    """A network with its normalisation.

    Args:
        network: normalised inputs to logits.
        spec: the data's shape, classes and statistics.
        normalize: whether to subtract the data's mean and divide by its standard deviation first.

    Raises:
        DataError: normalisation is asked for, but the data have no statistics.
    """

    def __init__(self, network: nn.Module, *, spec: InputSpec, normalize: bool = False) -> None:
        super().__init__()
        if normalize and not spec.mean:
            raise DataError("normalize=true: the data set gives no mean and standard deviation; set normalize=false")
        self.normalize: nn.Module = Normalize(spec.mean, spec.std) if normalize else nn.Identity()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [B, K], of inputs in [0, 1], [B, ...]."""
        logits: Tensor = self.network(self.normalize(inputs))
        return logits


def build_classifier(
    network: Callable[..., nn.Module], *, spec: InputSpec, normalize: bool = False, seed: int = 0
) -> Classifier:
    """A freshly initialised classifier; its weights are a function of the seed, and the global RNG is left alone.

    Args:
        network: makes the network, called with `spec=`.
        spec: the data's shape and classes.
        normalize: see `Classifier`.
        seed: the run's seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(seed, "model"))
        return Classifier(network(spec=spec), spec=spec, normalize=normalize)


def find_module(model: nn.Module, path: str) -> nn.Module:
    """A module by its dotted path; `layer3` also finds the classifier's `network.layer3`.

    Raises:
        UsageError: no module there; names the three nearest.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    for candidate in (path, f"network.{path}"):
        if candidate and candidate in modules:
            return modules[candidate]
    names = [name.removeprefix("network.") for name in modules if name not in ("", "network", "normalize")]
    near = difflib.get_close_matches(path.removeprefix("network."), names, n=3, cutoff=0.0)
    raise UsageError(f"{path}: the model has no such module; near: {', '.join(near)}")


class FeatureTaps:
    """Collects the outputs of modules by their dotted path, for as long as it is entered.

    Args:
        model: whose modules.
        paths: e.g. `layer3`.

    Attributes:
        outputs: path to the latest output.

    Raises:
        UsageError: no module at a path; names the three nearest.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        self._modules = {path: find_module(model, path) for path in paths}
        self._hooks: list[Any] = []
        self.outputs: dict[str, Tensor] = {}

    def __enter__(self) -> FeatureTaps:
        def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                if not isinstance(output, Tensor):
                    raise UsageError(
                        f"{path}: its output is a {type(output).__name__}, not a tensor; tap another module"
                    )
                self.outputs[path] = output

            return hook

        self._hooks = [module.register_forward_hook(keep(path)) for path, module in self._modules.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


@torch.no_grad()
def tap_shapes(model: nn.Module, paths: Sequence[str], spec: InputSpec) -> dict[str, tuple[int, ...]]:
    """The shape of one sample's output at each path; the model is left as it was.

    Raises:
        UsageError: no module at a path, or one that puts out no tensor or does not run.
    """
    training = model.training
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        with FeatureTaps(model, paths) as taps:
            model(torch.full((2, *spec.shape), spec.middle(), device=device))
    finally:
        model.train(training)
    for path in paths:
        if path not in taps.outputs:
            raise UsageError(f"{path}: the model does not run this module; tap another one")
    return {path: tuple(taps.outputs[path].shape[1:]) for path in paths}
