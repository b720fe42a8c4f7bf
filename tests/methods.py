"""Every method of conf/method, found by scanning, with what it takes to try one on a few made-up samples."""

import functools

import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.config import compose, conf_dir, numbers
from kdrobust.data import Batch
from kdrobust.losses import Objective
from kdrobust.modules import DistillationModule

METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml") if not path.stem.startswith("_"))
CLASSES = 5


def network(seed, width=12):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(144, width), nn.Tanh(),
            nn.Linear(width, CLASSES),
        )  # fmt: skip


def batch(size=10, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(size, 1, 6, 6, generator=generator).to(dtype)
    labels = torch.arange(size) % CLASSES
    return Batch(inputs=inputs, labels=labels, indices=torch.arange(size))


def config(name, overrides=()):
    return compose("distill", [f"method={name}", "epochs=4", *overrides])


def attack_of(cfg, steps=3):
    """The method's own inner maximisation, a few steps of it."""
    node = numbers(cfg.method)["attack"]
    given = {key: node[key] for key in ("goal", "start", "momentum", "model_mode")}
    return GradientAttack(threat=Threat(norm="linf", eps=0.05), steps=steps, step_size=0.02, **given)


def learner(name, *, overrides=(), student=None, teacher_seed=100, lr=0.05):
    """A module that learns by a method, and the attack that goes with it."""
    cfg = config(name, overrides)
    objective = Objective(numbers(cfg.method))
    objective.prepare(classes=CLASSES)
    names = sorted(objective.teachers | {objective.attack_model})
    teachers = {
        each: network(teacher_seed + place, width=20).eval().requires_grad_(False)
        for place, each in enumerate(names)
        if each not in objective.partners
    }
    partners = {each: network(200 + place) for place, each in enumerate(objective.partners)}
    module = DistillationModule(
        model=student or network(0),
        objective=objective,
        optimizer=functools.partial(torch.optim.SGD, lr=lr),
        payload={"spec": {"classes": CLASSES}},
        teachers=teachers,
        partners=partners,
    )
    return module.train(), attack_of(cfg)


def attacked(module, attack, given):
    """The batch as training sees it: adversarial inputs made, survived steps counted."""
    if module.objective.needs_survival:
        given.survived = torch.zeros(len(given))
    if module.objective.needs_attack:
        given.adversarial = module.craft(attack, given, where=0)
    return given


def loss_of(module, given, epoch=3.5):
    """The objective's result late in training, when every term counts."""
    return module.objective(module.views(given), epoch)
