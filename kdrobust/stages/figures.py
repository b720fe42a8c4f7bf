"""The pictures a training or an evaluation leaves behind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from kdrobust.attacks import GradientAttack, NoAttack
from kdrobust.data import DataModule
from kdrobust.evaluation import stratified
from kdrobust.randomness import address
from kdrobust.report import adversarial_grid, threat_text, training_curves

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


def training(
    folder: Path, model: nn.Module, data: DataModule, *, attack: GradientAttack | NoAttack | None, seed: int
) -> dict[str, str]:
    """Draw a training's curves and some attacked validation samples; returns what was drawn, name to file."""
    files = {"metrics": "metrics.csv", "training": "training.png"}
    training_curves(folder / "metrics.csv", folder / "training.png")
    if isinstance(attack, GradientAttack) and len(data.spec.shape) == 3:
        files["examples"] = examples(folder, model, data, "validation", attack, seed)
    return files
