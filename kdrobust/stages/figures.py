"""The pictures a training or an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.attacks import GradientAttack, NoAttack
from kdrobust.attacks.goals import cross_entropy
from kdrobust.data import DataModule
from kdrobust.evaluation import loss_surface, stratified
from kdrobust.randomness import address
from kdrobust.report import (
    adversarial_grid,
    gallery,
    loss_surface_plot,
    spectrograms,
    threat_text,
    training_curves,
    write_wav,
)
from kdrobust.spec import InputSpec

EXAMPLES = 8


#: Of recordings, which take a row each.
RECORDINGS = 4


def has_pictures(spec: InputSpec) -> bool:
    """Whether attacked inputs can be shown: images, or sound."""
    return len(spec.shape) == 3 or spec.sample_rate is not None


def examples(
    folder: Path, model: nn.Module, data: DataModule, split: str, attack: GradientAttack, seed: int
) -> dict[str, str]:
    """Draw some samples of a split, one a class first, clean and attacked; returns what was made, name to file."""
    samples = data.split(split)
    rows = stratified(samples.labels, EXAMPLES, seed=seed)
    clean, labels = samples.pixels(rows), samples.labels[rows]
    if data.unlabelled:
        # nobody may look: what the model makes of them stands in their place
        with torch.no_grad():
            labels = model(clean).argmax(dim=1)
    adversarial = attack(model, clean, labels, keys=samples.indices[rows], seed=address(seed, "examples"))
    with torch.no_grad():
        before, after = model(clean).argmax(dim=1), model(adversarial).argmax(dim=1)
    described = attack.describe()["threat"]
    if data.spec.sample_rate is not None:
        return _recordings(folder, data.spec, clean, adversarial, labels, (before, after), threat_text(described))
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
    return {"examples": "examples.png"}


def _recordings(
    folder: Path,
    spec: InputSpec,
    clean: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    answers: tuple[Tensor, Tensor],
    threat: str,
) -> dict[str, str]:
    """Spectrograms of the first recordings, and each of these before and after the attack as a wav file."""
    assert spec.sample_rate is not None
    names = spec.class_names or ()
    spectrograms(
        clean,
        adversarial,
        labels,
        *answers,
        folder / "examples.png",
        sample_rate=spec.sample_rate,
        class_names=names,
        threat=threat,
        most=RECORDINGS,
    )
    files = {"examples": "examples.png"}
    for place in range(min(RECORDINGS, len(clean))):
        for kind, signals in (("clean", clean), ("adversarial", adversarial)):
            name = f"examples/{place}_{kind}.wav"
            write_wav(folder / name, signals[place, 0], spec.sample_rate)
            files[f"{kind}_{place}"] = name
    return files


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
    files: dict[str, str] = {}
    threat = threat_text(attack.describe()["threat"])
    if data.spec.sample_rate is not None:
        heard = (before.argmax(dim=1), after.argmax(dim=1))
        files = _recordings(folder, data.spec, clean, adversarial, labels, heard, threat)
    elif data.spec.shape[0] in (1, 3):
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
    if isinstance(attack, GradientAttack) and has_pictures(data.spec):
        files |= examples(folder, model, data, "validation", attack, seed)
    return files
