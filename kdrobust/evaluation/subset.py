"""Which samples an evaluation looks at, where it does not look at all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.randomness import generator


def stratified(labels: Tensor, num_samples: int | None, *, seed: int) -> Tensor:
    """Draw samples with the classes in the proportions they have.

    Places are shared out by largest remainder; within a class the draw is uniform without replacement and depends on
    (seed, class) alone.

    Args:
        labels: [N] int64.
        num_samples: how many; None, or N and more, takes all.
        seed: the address of the draw.

    Returns:
        [min(num_samples, N)] int64 positions into `labels`, ascending.

    Raises:
        ValueError: `num_samples` below 1.
    """
    total = len(labels)
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1 or null, got {num_samples}")
    if num_samples is None or num_samples >= total:
        return torch.arange(total)
    labels = labels.cpu()
    classes, counts = torch.unique(labels, return_counts=True)
    exact = counts.double() * num_samples / total
    places = exact.floor().long()
    # stable: equal remainders go to the smaller label
    order = torch.argsort(exact - places, descending=True, stable=True)
    places[order[: num_samples - int(places.sum())]] += 1
    chosen = []
    for label, count in zip(classes.tolist(), places.tolist(), strict=True):
        members = torch.nonzero(labels == label).flatten()
        shuffled = torch.randperm(len(members), generator=generator(seed, "evaluation subset", label))
        chosen.append(members[shuffled[:count]])
    return torch.cat(chosen).sort().values
