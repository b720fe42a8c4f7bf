"""Tiny classifiers of digits, a data set of attacks on them, and a detector, trained in a second or two."""

import numpy as np
import torch
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.data import DataModule, Digits
from kdrobust.detection.pairs import Pairs
from kdrobust.models import build_classifier, checkpoint_payload
from kdrobust.models.convnet import MLP

LIMITS = {"limit_train": 400, "limit_validation": 60, "limit_test": 60}


def digits(**more):
    return DataModule(source=Digits(), name="digits", **{**LIMITS, **more})


def train(model, inputs, labels, steps, lr=0.01):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    for _ in range(steps):
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def save(model, path, network, spec):
    payload = checkpoint_payload(
        model={"network": network, "normalize": False}, spec=spec, stage="teacher", threat={"norm": "linf", "eps": 0.1}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"kdrobust": payload, "state_dict": weights}, path)
    return path


def save_classifier(path, *, hidden=(24,), seed=0, data=None):
    data = data or digits()
    split = data.split("train")
    model = build_classifier(lambda spec: MLP(spec=spec, hidden=hidden), spec=data.spec, seed=seed)
    train(model, split.pixels(torch.arange(len(split.labels))), split.labels, 60)
    return save(model, path, {"_target_": "kdrobust.models.MLP", "hidden": list(hidden)}, data.spec)


def save_detector(path, pairs):
    """The picture alone, a perceptron."""
    split = pairs.split("train")
    model = build_classifier(lambda spec: MLP(spec=spec, hidden=(32,)), spec=pairs.spec, seed=1)
    train(model, split.pixels(torch.arange(len(split.labels))), split.labels, 120)
    save(model, path, {"_target_": "kdrobust.models.MLP", "hidden": [32]}, pairs.spec)
    return model


def attack(eps=0.2, steps=3, **more):
    threat = Threat(norm="linf", eps=eps)
    return GradientAttack(threat=threat, steps=steps, step_size=eps / max(1, steps - 1), **more)


def source(place, **more):
    given = {
        "data": digits(),
        "classifier": str(place / "classifier" / "best.ckpt"),
        "surrogate": str(place / "surrogate" / "best.ckpt"),
        "attacks": {"fgsm": attack(0.2, 1), "pgd": attack(0.25, 4)},
        "shifts": {"names": ["gaussian_blur"], "severities": [1, 3]},
    }
    return Pairs(**{**given, **more})


def pairs_of(place, **more):
    return DataModule(source=source(place, **more), name="detection", root=place / "datasets")


def laid_out(place):
    """A folder with two classifiers, a detector beside its calibration, and the pairs it was trained on."""
    from kdrobust.detection.calibration import write_calibration

    save_classifier(place / "classifier" / "best.ckpt")
    save_classifier(place / "surrogate" / "best.ckpt", hidden=(32, 16), seed=5)
    pairs = pairs_of(place)
    model = save_detector(place / "detector" / "best.ckpt", pairs)
    write_calibration(place / "detector", model, pairs.source)
    return pairs


def clean_npz(path, count, seed=0):
    images = digits(limit_train=None).split("train")
    rows = torch.arange(count) % len(images.labels)
    np.savez(path, x=images.pixels(rows).numpy())
    return path
