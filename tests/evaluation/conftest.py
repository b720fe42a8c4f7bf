"""Small models whose honesty, or the lack of it, is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat

VECTORS = Path(__file__).parents[1] / "attacks" / "vectors" / "attacks.npz"


class Broken(nn.Module):
    """The fixture model of vectors/attacks.md, and its ways of hiding."""

    def __init__(self, arrays, *, scale=1.0, rounded=False, noise=0.0, detached=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.fc = nn.Linear(36, 5)
        names = {"model/conv_w": self.conv.weight, "model/conv_b": self.conv.bias}
        names |= {"model/fc_w": self.fc.weight, "model/fc_b": self.fc.bias}
        with torch.no_grad():
            for key, parameter in names.items():
                parameter.copy_(torch.from_numpy(arrays[key]))
        self.scale, self.rounded, self.noise, self.detached = scale, rounded, noise, detached

    def forward(self, inputs):
        if self.rounded:
            inputs = (inputs * 8).round() / 8
        if self.detached:
            inputs = inputs.detach()
        if self.noise:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        return self.scale * self.fc(torch.relu(self.conv(inputs)).flatten(1))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def arrays():
    return dict(np.load(VECTORS))


@pytest.fixture
def fixture_model(arrays):
    return lambda **how: Broken(arrays, **how).eval()


@pytest.fixture
def fixture_data(arrays):
    labels = torch.from_numpy(arrays["y"])
    return {"inputs": torch.from_numpy(arrays["x"]).float(), "labels": labels, "indices": torch.arange(len(labels))}


@pytest.fixture
def suite():
    def make(eps=0.05, norm="linf", steps=10, start="uniform"):
        threat = Threat(norm=norm, eps=eps)
        one = GradientAttack(threat=threat, steps=1, step_size=eps)
        many = GradientAttack(threat=threat, steps=steps, step_size=eps / 4, start=start)
        return {"threat": threat, "attacks": {"fgsm": one, "pgd": many}}

    return make


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.images * 15, dtype=torch.uint8).unsqueeze(1), torch.tensor(digits.target)


def _small(kind):
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


@pytest.fixture(scope="session")
def digits():
    """Uint8 test digits, their labels and indices, and models trained on the others: by kind and training ε."""
    inputs, labels = _digits()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs, labels = inputs[order], labels[order]
    train, truth = inputs[:1200].float() / 255, labels[:1200]
    models = {}
    with torch.random.fork_rng():
        for kind, eps, epochs in (("linear", 0.0, 15), ("linear", 0.2, 6), ("cnn", 0.0, 8), ("cnn", 0.1, 6)):
            torch.manual_seed(1)
            model = _small(kind)
            optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
            attack = GradientAttack(
                threat=Threat(norm="linf", eps=eps), steps=4 if eps else 0, step_size=eps / 2, start="uniform"
            )
            for epoch in range(epochs):
                for rows in torch.randperm(len(train)).split(64):
                    x = attack(model, train[rows], truth[rows], keys=rows, seed=epoch, validate=False)
                    model.train()
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x), truth[rows]).backward()
                    optimizer.step()
            models[kind, eps] = model.eval()
    test = {"inputs": inputs[1200:1500], "labels": labels[1200:1500], "indices": torch.arange(1200, 1500)}
    return {"models": models, **test}
