"""The pictures a training or an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrobust.attacks import GradientAttack, NoAttack
from kdrobust.attacks.goals import cross_entropy
from kdrobust.data import DataModule
from kdrobust.evaluation import loss_surface, stratified
from kdrobust.randomness import address
from kdrobust.report import adversarial_grid, gallery, loss_surface_plot, threat_text, training_curves

EXAMPLES = 8


def examples(folder: Path, model: nn.Module, data: DataModule, split: str, attack: GradientAttack, seed: int) -> str:
    """Draw some samples of a split, one a class first, clean and attacked; returns the file's name."""
    samples = data.split(split)
    rows = stratified(samples.labels, EXAMPLES, seed=seed)
    clean, labels = samples.pixels(rows), samples.labels[rows]
    adversarial = attack(model, clean, labels, keys=samples.indices[rows], seed=address(seed, "examples"))
    with torch.no_grad():
        before, after = model(clean).argmax(dim=1), model(adversarial).argmax(dim=1)
    described = attack.describe()["threat"]
    adversarial_grid(
        clean,
        adversarial,
        labels,
        before,
        after,
        data.spec.class_names or tuple(str(number) for number in range(data.spec.classes)),
        threat_text(described),
        folder / "examples.png",
    )
    return "examples.png"


def drawable(attacks: Mapping[str, Any]) -> GradientAttack | None:
    """The suite's last gradient attack that stays in the ball: what examples are drawn with."""
    found = [attack for attack in attacks.values() if isinstance(attack, GradientAttack)]
    return found[-1] if found else None


def attacked(folder: Path, model: nn.Module, data: DataModule, attack: GradientAttack, seed: int) -> dict[str, str]:
    """Draw some attacked test samples with the perturbation magnified, and the loss around three of them."""
    test = data.split("test")
    rows = stratified(test.labels, EXAMPLES, seed=seed)
    clean, labels, keys = test.pixels(rows), test.labels[rows], test.indices[rows]
    adversarial = attack(model, clean, labels, keys=keys, seed=address(seed, "examples"))
    with torch.no_grad():
        before, after = model(clean), model(adversarial)
    names = data.spec.class_names or ()
    files = {}
    if data.spec.shape[0] in (1, 3):
        threat = threat_text(attack.describe()["threat"])
        gallery(clean, adversarial, labels, before, after, folder / "examples.png", class_names=names, threat=threat)
        files["examples"] = "examples.png"
    # where the attack climbs highest: a flat map of a sure sample says little
    most = cross_entropy(after, labels).topk(min(3, len(labels))).indices
    surface = loss_surface(
        model, clean[most], labels[most], adversarial[most], keys=keys[most], seed=seed, bounds=data.spec.bounds
    )
    loss_surface_plot(surface, folder / "surface.png", class_names=names)
    return {**files, "surface": "surface.png"}


def training(
    folder: Path, model: nn.Module, data: DataModule, *, attack: GradientAttack | NoAttack | None, seed: int
) -> dict[str, str]:
    """Draw a training's curves and some attacked validation samples; returns what was drawn, name to file."""
    files = {"metrics": "metrics.csv", "training": "training.png"}
    training_curves(folder / "metrics.csv", folder / "training.png")
    if isinstance(attack, GradientAttack) and len(data.spec.shape) == 3:
        files["examples"] = examples(folder, model, data, "validation", attack, seed)
    return files
