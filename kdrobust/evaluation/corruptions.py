"""Accuracy under common corruptions: the control of a natural shift beside the attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.data.corruptions import CORRUPTIONS, SEVERITIES, SIGNAL_CORRUPTIONS, corrupt, corruptions_for
from kdrobust.data.corruptions.table import check_names
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import eval_mode, predict, to_unit


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """Accuracy under corruptions.

    Attributes:
        n: samples, each corrupted in every way.
        clean: how many are correct without corruption.
        correct: how many are correct, by corruption and severity.
        seed: address of the draws.
    """

    n: int
    clean: int
    correct: dict[str, dict[int, int]]
    seed: int

    def accuracy(self, name: str | None = None) -> float | None:
        """Mean over the severities of one corruption, or `mCA`: the mean of all of them. None without samples."""
        counts = [count for found in ([name] if name else self.correct) for count in self.correct[found].values()]
        return float(np.mean(counts) / self.n) if counts and self.n else None


def evaluate_corruptions(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    indices: Tensor,
    *,
    names: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> Corrupted:
    """Measure a model on corrupted samples; a sample that is wrong without corruption counts with its new answer.

    The mean over corruptions, then severities, is mCA, the mean corruption accuracy; it is not ImageNet-C's mCE, which
    is relative to AlexNet. A model robust to attacks need not be robust to these, and the other way round.

    Args:
        model: inputs to logits [B, K]; evaluated in eval mode, every module's mode is restored after.
        inputs: images [N, C, H, W], uint8 or floats in [0, 1]; or recordings [N, C, T], floats in [-1, 1].
        labels: [N] int64.
        indices: [N] int64, each sample's place in its split: the keys of the draws.
        names: of `kdrobust.data.corruptions.corruptions_for` such inputs; None: all.
        severities: out of 1 .. 5.
        batch_size: samples at once; changes no verdict.
        seed: address of the draws.
        device: where to compute.
        progress: told (what, done, total) after every corruption and severity.

    Raises:
        UsageError: an unknown corruption or severity.
        ValueError: lengths that differ, or inputs that are neither images nor recordings.
    """
    known = corruptions_for(inputs.shape[1:])
    chosen, levels = list(known if names is None else names), list(severities)
    check_names(chosen, levels, known)
    if not len(inputs) == len(labels) == len(indices):
        counts = f"{len(inputs)}, {len(labels)} and {len(indices)}"
        raise ValueError(f"expected as many inputs, labels and indices, got {counts}")
    model.to(device)
    pieces = torch.split(torch.arange(len(labels)), batch_size) if len(labels) else ()
    clean, done = 0, 0
    correct = {name: dict.fromkeys(levels, 0) for name in chosen}
    total = len(pieces) * len(chosen) * len(levels)
    with eval_mode(model):
        for rows in pieces:
            images, truth, keys = to_unit(inputs[rows], device), labels[rows].to(device), indices[rows].to(device)
            clean += int((predict(model, images).argmax(dim=1) == truth).sum())
            for name in chosen:
                for level in levels:
                    answers = predict(model, corrupt(images, name, level, keys=keys, seed=seed)).argmax(dim=1)
                    correct[name][level] += int((answers == truth).sum())
                    done += 1
                    if progress is not None:
                        progress("corruptions", done, total)
    return Corrupted(n=len(labels), clean=clean, correct=correct, seed=seed)


def merge_corrupted(parts: Sequence[Corrupted]) -> Corrupted:
    """Add up what several processes found on disjoint samples.

    Raises:
        ValueError: no part, or parts of different corruptions or seeds.
    """
    if not parts:
        raise ValueError("nothing to merge")
    first = parts[0]
    kinds = [(part.seed, {name: list(counts) for name, counts in part.correct.items()}) for part in parts]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("cannot merge corruptions of different kinds or seeds")
    return Corrupted(
        n=sum(part.n for part in parts),
        clean=sum(part.clean for part in parts),
        correct={
            name: {level: sum(part.correct[name][level] for part in parts) for level in counts}
            for name, counts in first.correct.items()
        },
        seed=first.seed,
    )


def corruption_result(corrupted: Corrupted, *, confidence: float = 0.95) -> dict[str, Any]:
    """Plain values: accuracy by corruption and severity with Wilson intervals, and the means.

    Args:
        corrupted: what `evaluate_corruptions` or `merge_corrupted` returned.
        confidence: coverage of the intervals, in (0, 1).
    """
    n = corrupted.n

    def figure(count: int) -> dict[str, Any]:
        accuracy = count / n if n else None
        return {"correct": count, "n": n, "accuracy": accuracy, "interval": list(wilson(count, n, confidence))}

    return {
        "n": n,
        "seed": corrupted.seed,
        "confidence": confidence,
        "clean": figure(corrupted.clean),
        "mca": corrupted.accuracy(),
        "corruptions": {
            name: {
                "family": {**CORRUPTIONS, **SIGNAL_CORRUPTIONS}[name].family,
                "accuracy": corrupted.accuracy(name),
                "severities": {str(level): figure(count) for level, count in counts.items()},
            }
            for name, counts in corrupted.correct.items()
        },
    }
