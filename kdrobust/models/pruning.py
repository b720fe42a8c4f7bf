"""Structured pruning: whole channels and hidden units taken out, so that what is left is a smaller network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kdrobust.errors import UsageError
from kdrobust.models.classifier import Classifier
from kdrobust.spec import InputSpec


class _Chain(Protocol):
    """A network whose convolutions and linear layers follow one another, each reading the one before alone."""

    def narrowed(self, widths: Sequence[int]) -> dict[str, Any]:
        """Constructor arguments of the same network with so many outputs of each layer but the last."""
        ...


def prune_channels(
    model: Classifier, network: Mapping[str, Any], *, spec: InputSpec, amount: float
) -> tuple[Classifier, dict[str, Any]]:
    r"""Remove from every layer but the last the share `amount` of outputs with the smallest ℓ2 norms of their weights.

    The importance of output c is $\|W_c\|_2$, by `torch.nn.utils.prune.ln_structured`; at least one output stays. What
    read a removed output loses those weights. Nothing is trained: fine-tune afterwards.

    Args:
        model: a `ConvNet` or an `MLP` with its normalisation; left as it is.
        network: its config, with `_target_`.
        spec: what it was built for.
        amount: share of outputs to remove, in [0, 1).

    Returns:
        The smaller classifier, and the config it can be rebuilt from.

    Raises:
        UsageError: `amount` out of range, or a network that is no chain: where layers share channels, as in residual
            blocks, none can go alone.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710 (there by ℓ1).
    """
    if not 0 <= amount < 1:
        raise UsageError(f"amount={amount}: the share of channels to remove, at least 0 and below 1")
    if not hasattr(model.network, "narrowed"):
        name = type(model.network).__name__
        raise UsageError(
            f"checkpoint: a {name} cannot be pruned by channels, as its layers share them; train a narrower one "
            "instead (model widths), or take a ConvNet or MLP"
        )
    layers = _layers(model.network)
    kept = [_strongest(layer, amount) for _, layer in layers[:-1]]
    arguments = cast(_Chain, model.network).narrowed([len(rows) for rows in kept])
    with torch.random.fork_rng(devices=[]):
        smaller = type(model.network)(spec=spec, **arguments)
    weights = _without(layers, kept)
    smaller.load_state_dict({**smaller.state_dict(), **weights})
    config = {key: value for key, value in network.items() if key.startswith("_")} | arguments
    pruned = Classifier(smaller, spec=spec)
    pruned.normalize = copy.deepcopy(model.normalize)
    return pruned.train(model.training), config


def _layers(network: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _strongest(layer: nn.Conv2d | nn.Linear, amount: float) -> Tensor:
    """Places of the outputs that stay, ascending."""
    outputs = len(layer.weight)
    gone = min(round(amount * outputs), outputs - 1)
    if not gone:
        return torch.arange(outputs)
    masked = prune.ln_structured(copy.deepcopy(layer), "weight", amount=gone, n=2, dim=0)  # type: ignore[no-untyped-call]
    return torch.nonzero(masked.weight_mask.flatten(1).any(dim=1)).flatten()


def _without(layers: Sequence[tuple[str, nn.Conv2d | nn.Linear]], kept: Sequence[Tensor]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    read, before = None, 0
    for place, (name, layer) in enumerate(layers):
        weight, bias = layer.weight.detach(), layer.bias
        if read is not None:
            # a flattened channel is a block of columns
            block = weight.shape[1] // before
            columns = (read.view(-1, 1) * block + torch.arange(block)).flatten()
            weight = weight.index_select(1, columns)
        if place < len(kept):
            read, before = kept[place], len(layer.weight)
            weight = weight.index_select(0, read)
            bias = None if bias is None else bias.detach().index_select(0, read)
        weights[f"{name}.weight"] = weight.clone()
        if bias is not None:
            weights[f"{name}.bias"] = bias.detach().clone()
    return weights
