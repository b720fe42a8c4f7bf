"""The fixture model of vectors/attacks.md in float32, and a network with everything an attack may disturb."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

ARRAYS = np.load(Path(__file__).parents[1] / "vectors" / "attacks.npz")


@pytest.fixture(scope="session")
def tiny():
    """Model, inputs, labels and the arrays they come from."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    with torch.no_grad():
        for parameter, name in zip(model.parameters(), ("conv_w", "conv_b", "fc_w", "fc_b"), strict=True):
            parameter.copy_(torch.from_numpy(ARRAYS[f"model/{name}"]))
    inputs = torch.from_numpy(ARRAYS["x"]).float()
    return SimpleNamespace(model=model, inputs=inputs, labels=torch.from_numpy(ARRAYS["y"]), arrays=ARRAYS)


class Fragile(nn.Module):
    """Batch norm, dropout, frozen parts, and a call at which it breaks."""

    def __init__(self, classes=5, breaks_at=None):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
            self.head = nn.Linear(144, classes)
        self.body[0].bias.requires_grad_(False)
        self.train()
        self.body[1].eval()
        self.head.weight.grad = torch.full_like(self.head.weight, 3.0)
        self.breaks_at, self.calls = breaks_at, 0

    def forward(self, inputs):
        self.calls += 1
        if self.calls == self.breaks_at:
            raise RuntimeError("boom")
        return self.head(self.body(inputs))


def footprint(model):
    """Everything that an attack may not change, comparable with ==."""
    return {
        "modes": [module.training for module in model.modules()],
        "asks": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "buffers": [buffer.tolist() for buffer in model.buffers()],
        "weights": [parameter.tolist() for parameter in model.parameters()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "trace": sys.gettrace(),
        "grad mode": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
    }


@pytest.fixture
def tracer():
    """A trace function like a debugger's, for the time of a test."""
    before = sys.gettrace()

    def trace(frame, event, argument):
        return None

    sys.settrace(trace)
    yield trace
    sys.settrace(before)
