"""Channels taken out for good: the smaller network computes what the masked one does."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from kdrobust.errors import UsageError
from kdrobust.models import MLP, Classifier, ConvNet, ResNet, build_classifier, prune_channels
from kdrobust.spec import InputSpec

SMALL = InputSpec(shape=(1, 8, 8), classes=3, mean=(0.3,), std=(0.4,))
LARGE = InputSpec(shape=(3, 28, 28), classes=5, mean=(0.3,) * 3, std=(0.4,) * 3)
NETWORKS = {
    "plain": (ConvNet, {"channels": [8, 12], "hidden": 0}, SMALL),
    "hidden": (ConvNet, {"channels": [8, 12], "hidden": 10}, SMALL),
    "pooled": (ConvNet, {"channels": [4, 6, 8], "hidden": 5, "width": 2.0}, LARGE),
    "mlp": (MLP, {"hidden": [20, 10]}, SMALL),
}


def made(name):
    network, arguments, spec = NETWORKS[name]
    model = build_classifier(lambda *, spec: network(spec=spec, **arguments), spec=spec, normalize=True)
    return model.eval(), {"_target_": f"kdrobust.models.{network.__name__}", **arguments}, spec


def masked(model, amount):
    """The same by masks: pruned outputs are zero, and so is their bias; the last layer keeps all."""
    model = copy.deepcopy(model)
    layers = [layer for layer in model.network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        gone = round(amount * len(layer.weight))
        prune.ln_structured(layer, "weight", amount=gone, n=2, dim=0)
        with torch.no_grad():
            layer.bias *= layer.weight_mask.flatten(1).any(dim=1)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("amount", [0.25, 0.5])
def test_the_smaller_network_computes_what_the_masked_one_does(name, amount):
    model, config, spec = made(name)
    smaller, rebuilt = prune_channels(model, config, spec=spec, amount=amount)
    x = torch.rand(5, *spec.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smaller(x), masked(model, amount)(x), atol=1e-5, rtol=1e-5)
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (smaller, model)]
    assert sizes[0] < (1 - amount / 2) * sizes[1]
    # and its config makes the same network again
    network = NETWORKS[name][0](spec=spec, **{key: value for key, value in rebuilt.items() if key[0] != "_"})
    again = Classifier(network, spec=spec, normalize=True)
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again.eval()(x), smaller(x))
    assert rebuilt["_target_"] == config["_target_"]


def test_nothing_removed_nothing_changed():
    model, config, spec = made("hidden")
    before = copy.deepcopy(model.state_dict())
    same, _ = prune_channels(model, config, spec=spec, amount=0)
    assert all(torch.equal(value, before[name]) for name, value in same.state_dict().items())
    prune_channels(model, config, spec=spec, amount=0.9)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_channel_always_stays():
    model, config, spec = made("plain")
    _, rebuilt = prune_channels(model, config, spec=spec, amount=0.99)
    assert rebuilt["channels"] == [1, 1]


@pytest.mark.parametrize("amount", [-0.1, 1, 2])
def test_shares_that_are_none(amount):
    model, config, spec = made("plain")
    with pytest.raises(UsageError, match=f"amount={amount}: the share"):
        prune_channels(model, config, spec=spec, amount=amount)


def test_residual_networks_are_refused():
    model = build_classifier(lambda *, spec: ResNet(spec=spec, blocks=(1, 1), width=0.1), spec=LARGE)
    with pytest.raises(UsageError, match="a ResNet cannot be pruned by channels"):
        prune_channels(model, {}, spec=LARGE, amount=0.5)
