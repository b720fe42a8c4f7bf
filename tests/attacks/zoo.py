"""Every attack with settings small enough to test, and things to attack."""

import copy
import functools
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.attacks import APGD, DDN, FMN, CarliniWagner, Cascade, GradientAttack, Square, Threat

EPS = {"linf": 0.05, "l2": 0.2}
ARRAYS = np.load(Path(__file__).parent / "vectors" / "attacks.npz")


def attacks_of(norm, eps=None, bounds=(0, 1)):
    """By name; all within `eps`, but for those that look for the nearest point."""
    eps = EPS[norm] if eps is None else eps
    threat = Threat(norm=norm, eps=eps, bounds=bounds)
    found = {
        "gradient": GradientAttack(threat=threat, steps=3, step_size=eps / 2, start="uniform", restarts=2, keep="best"),
        "apgd": APGD(threat=threat, steps=4, restarts=2),
        "apgd_dlr": APGD(threat=threat, steps=6, goal="dlr", compact=False),
        "apgd_t": APGD(threat=threat, steps=4, goal="dlr_targeted", targets=2),
        "square": Square(threat=threat, queries=8, restarts=2),
        "fmn": FMN(threat=threat, steps=5, targets=1, restarts=2),
    }
    if norm == "l2":
        width = bounds[1] - bounds[0]
        found["ddn"] = DDN(threat=threat, steps=6, first_radius=0.3 * width, step_size=width)
        found["cw"] = CarliniWagner(threat=threat, steps=8, rounds=3, learning_rate=0.1, first_c=width**2)
    members = {name: found[name] for name in ("apgd", "fmn", "square")}
    return {**found, "cascade": Cascade(threat=threat, attacks=members, batch_size=3)}


EVERY = [(norm, name) for norm in EPS for name in attacks_of(norm)]
NEAREST = ("fmn", "ddn", "cw")


def network(seed=0, classes=5, dtype=torch.float64):
    """Batch norm and dropout. Every class is the answer to some inputs, so some samples stand and some fall."""
    return copy.deepcopy(_network(seed, classes, dtype))


@functools.cache
def _network(seed, classes, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(64, classes)
        model = nn.Sequential(*layers).double().eval()
        with torch.no_grad():
            model[5].bias -= model(torch.rand(200, 1, 6, 6).double()).mean(0)
    return model.train().to(dtype)


def batch(count=8, seed=1, model=None, dtype=torch.float64):
    """Inputs and labels: the model's own answers, but for every fourth sample."""
    inputs = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    model = network(dtype=dtype).eval() if model is None else model
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    labels[3::4] = (labels[3::4] + 1) % 5
    return inputs, labels


def tensor(key):
    return torch.from_numpy(np.asarray(ARRAYS[key]))


def stored(prefix="model"):
    """The network of the vector file."""
    conv_w, conv_b, fc_w, fc_b = (tensor(f"{prefix}/{name}") for name in ("conv_w", "conv_b", "fc_w", "fc_b"))
    return lambda x: F.relu(F.conv2d(x, conv_w, conv_b, stride=2)).flatten(1) @ fc_w.T + fc_b


MODEL, X, Y = stored(), tensor("x"), tensor("y")
