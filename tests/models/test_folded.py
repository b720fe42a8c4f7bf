"""The folded form of a classifier: the same function, and what must not be folded."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.models import MLP, Classifier, ConvNet, MobileNetV2, PreActResNet, ResNet, WideResNet
from kdrobust.models.folded import Folded, NotFoldable, check_folded
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(3, 16, 16), classes=5, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25])
GREY = InputSpec(shape=(1, 8, 8), classes=5, mean=[0.4], std=[0.2])
NETWORKS = {
    "conv": (ConvNet, GREY, {}),
    "resnet": (ResNet, SPEC, {"blocks": (1, 1, 1), "width": 0.25}),
    "preact": (PreActResNet, SPEC, {"blocks": (1, 1), "width": 0.25}),
    "wide": (WideResNet, SPEC, {"depth": 10, "widen": 1}),
    "mobilenet": (MobileNetV2, SPEC, {"width": 0.25}),
}


def lived_in(model):
    """Statistics and affine parameters as training leaves them, far from 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return model


def build(name, normalize=True):
    kind, spec, options = NETWORKS[name]
    torch.manual_seed(0)
    model = lived_in(Classifier(kind(spec=spec, **options), spec=spec, normalize=normalize)).eval()
    return model, torch.rand(6, *spec.shape, generator=torch.Generator().manual_seed(2))


def slope_of(model, inputs):
    point = inputs.clone().requires_grad_(True)
    logits = model(point)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.zeros(len(inputs), dtype=torch.long)), point)
    return logits.detach(), gradient


@pytest.mark.parametrize("name", NETWORKS)
def test_same_answers_and_gradients(name):
    model, inputs = build(name)
    folded = Folded(model)
    check_folded(model, folded, inputs)
    (expected, gradient), (found, ours) = slope_of(model, inputs), slope_of(folded, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # a ReLU whose input is zero to rounding may open in one and not in the other
    assert float((ours - gradient).norm() / gradient.norm()) < 2e-2


@pytest.mark.parametrize("name", ["conv", "resnet", "wide"])
def test_half_precision_is_near(name):
    model, inputs = build(name)
    (expected, gradient), (found, ours) = slope_of(model, inputs), slope_of(Folded(model, torch.bfloat16), inputs)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < 3e-2
    assert float(F.cosine_similarity(ours.flatten(), gradient.flatten(), dim=0)) > 0.97


def test_batch_norm_is_gone_from_what_runs():
    model, inputs = build("resnet")
    with torch.profiler.profile() as profile, torch.no_grad():
        Folded(model)(inputs)
    assert not [event for event in profile.key_averages() if "batch_norm" in event.key]


def test_model_is_never_touched():
    model, inputs = build("resnet")
    model.train()
    before = copy.deepcopy(model.state_dict())
    slope_of(Folded(model), inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert model(inputs).requires_grad


@pytest.mark.parametrize("change", ["step", "data", "statistics"])
def test_refresh_takes_weights_over_in_place(change):
    model, inputs = build("resnet")
    folded = Folded(model)
    stale = folded(inputs)
    kept = [layer.weight.data_ptr() for layer in folded._layers]
    if change == "step":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        F.cross_entropy(model(inputs), torch.zeros(len(inputs), dtype=torch.long)).backward()
        optimizer.step()
    elif change == "data":
        # no version counter notices this one
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
    else:
        model.train()(inputs)
        model.eval()
    expected = model(inputs)
    assert not torch.allclose(stale, expected, rtol=1e-3, atol=1e-3)
    folded.refresh()
    torch.testing.assert_close(folded(inputs), expected, rtol=1e-4, atol=1e-4)
    assert [layer.weight.data_ptr() for layer in folded._layers] == kept


def test_autocast_has_no_say():
    model, inputs = build("resnet")
    folded = Folded(model)
    alone = folded(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        check_folded(model, folded, inputs)
        assert torch.equal(folded(inputs), alone)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, inputs):
        return self.conv(inputs + 0.1 * torch.randn_like(inputs)).mean(dim=(2, 3))


class Branching(Noisy):
    def forward(self, inputs):
        return self.conv(inputs if inputs.mean() > 0 else -inputs).mean(dim=(2, 3))


class Frozen(Noisy):
    """The draw has no traced argument: tracing alone would make a constant of it."""

    def forward(self, inputs):
        return self.conv(inputs + torch.randn(1)).mean(dim=(2, 3))


class Cut(Noisy):
    def forward(self, inputs):
        return self.conv(inputs.detach()).mean(dim=(2, 3))


def listened():
    model, _ = build("resnet")
    model.network.head.register_forward_hook(lambda *_: None)
    return model


def replaced():
    model, _ = build("resnet")
    model.network.forward = lambda inputs: inputs
    return model


def batch_statistics():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Noisy, "randn_like"),
        (Branching, "cannot trace"),
        (Frozen, "tensor_constant"),
        (Cut, "detach"),
        (listened, "hook"),
        (replaced, "forward was replaced"),
        (batch_statistics, "own statistics"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4)), "InstanceNorm2d"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")), "other than zeros"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3))), "Parametrized"),
        (lambda: MLP(spec=GREY), "no convolution"),
        (lambda: ConvNet(spec=GREY).double(), "single precision"),
    ],
)
def test_what_is_no_fixed_chain_is_refused(make, reason):
    with pytest.raises(NotFoldable, match=reason):
        Folded(make())


def test_a_wrong_fold_is_noticed():
    model, inputs = build("resnet")
    folded = Folded(model)
    with torch.no_grad():
        model.network.head.weight.mul_(2.0)
    with pytest.raises(NotFoldable, match="differently"):
        check_folded(model, folded, inputs)


def test_a_fold_that_does_not_run_is_noticed():
    # a map that is a single column looks channels first to `view`-like code, so `reshape` is what is admitted
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 16 * 16, 2))
    folded = Folded(model)
    with pytest.raises(NotFoldable, match="does not run"):
        check_folded(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), folded, torch.rand(2, 3, 8, 8))


def test_fits_until_the_model_is_rebuilt():
    model, _ = build("resnet")
    folded = Folded(model)
    assert folded.fits(model)
    hook = model.network.head.register_forward_hook(lambda *_: None)
    assert not folded.fits(model)
    hook.remove()
    assert folded.fits(model)
    model.network.head = nn.Linear(64, 5)
    assert not folded.fits(model)


def test_operations_and_groups():
    model, inputs = build("conv")
    # 8x8 pixels by 1·8·9 and 4x4 by 8·16·9 multiply-adds, 256·32 and 32·5 in the linear layers
    assert Folded(model).flops(inputs) == 2 * (64 * 72 + 16 * 1152 + 256 * 32 + 32 * 5)
    assert not Folded(model).grouped
    assert Folded(build("mobilenet")[0]).grouped


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_of_few_samples_none_depends_on_how_many_there_are(name, dtype):
    model, inputs = build(name)
    folded = Folded(model, dtype)

    def look(images):
        point = images.clone().requires_grad_(True)
        logits = folded(point)
        return logits.detach(), torch.autograd.grad(logits.square().sum(), point)[0]

    whole = look(inputs)
    for rows in (slice(0, 1), slice(2, 5)):
        assert all(torch.equal(few, many[rows]) for few, many in zip(look(inputs[rows]), whole, strict=True))
    assert folded(inputs[:0]).shape == (0, 5)
