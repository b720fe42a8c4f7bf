"""The pictures a training or an evaluation leaves behind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from kdrobust.attacks import GradientAttack, NoAttack
from kdrobust.data import DataModule
from kdrobust.randomness import address
from kdrobust.report import adversarial_grid, training_curves

EXAMPLES = 8


def examples(
    folder: Path, model: nn.Module, data: DataModule, split: str, attack: GradientAttack | NoAttack, seed: int
) -> str:
    """Draw the first samples of a split, clean and attacked; returns the file's name."""
    samples = data.split(split)
    rows = torch.arange(min(EXAMPLES, len(samples.labels)))
    clean, labels = samples.pixels(rows), samples.labels[rows]
    adversarial = attack(model, clean, labels, keys=samples.indices[rows], seed=address(seed, "examples"))
    with torch.no_grad():
        before, after = model(clean).argmax(dim=1), model(adversarial).argmax(dim=1)
    described = attack.describe().get("threat", {})
    adversarial_grid(
        clean.numpy(),
        adversarial.numpy(),
        labels.numpy(),
        before.numpy(),
        after.numpy(),
        data.spec.class_names or tuple(str(number) for number in range(data.spec.classes)),
        f"{described.get('norm', '')} ε = {described.get('eps', 0.0):.4g}",
        folder / "examples.png",
    )
    return "examples.png"


def training(
    folder: Path, model: nn.Module, data: DataModule, *, attack: GradientAttack | NoAttack | None, seed: int
) -> dict[str, str]:
    """Draw a training's curves and some attacked validation samples; returns what was drawn, name to file."""
    files = {"metrics": "metrics.csv", "training": "training.png"}
    training_curves(folder / "metrics.csv", folder / "training.png")
    if attack is not None and len(data.spec.shape) == 3:
        files["examples"] = examples(folder, model, data, "validation", attack, seed)
    return files
