"""Seeded, stratified choices of samples, and what one split of a data set holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kdrobust.data.arrays import FilePixels, Pixels
from kdrobust.randomness import generator

IntArray = npt.NDArray[np.int64]


def allocate(counts: IntArray, total: int, *, least: int = 0, spare: int = 0) -> IntArray:
    """Share out `total` samples over classes in proportion to their sizes, by largest remainder.

    Args:
        counts: [K] samples a class.
        total: how many to choose.
        least: take at least so many of every class.
        spare: leave at least so many of every class.

    Returns:
        [K] samples to take; they add up to `total` where `least` and `spare` leave room for it.
    """
    quota = counts * (total / int(counts.sum()))
    share: IntArray = np.clip(np.floor(quota).astype(np.int64), least, np.maximum(counts - spare, 0))
    while (missing := total - int(share.sum())) != 0:
        step = 1 if missing > 0 else -1
        room = share < counts - spare if step > 0 else share > least
        if not room.any():
            break
        share[np.argmax(np.where(room, step * (quota - share), -np.inf))] += step
    return share


def stratified(labels: IntArray, total: int, *, seed: int, purpose: str, least: int = 0, spare: int = 0) -> IntArray:
    """Choose `total` samples with every class in its proportion.

    Args:
        labels: [N] labels in 0 .. K-1.
        total: how many to choose, see `allocate`.
        seed: addresses the choice.
        purpose: which choice this is; two purposes choose independently.
        least: of every class that has any, at least.
        spare: of every class, left out at least.

    Returns:
        Their places, ascending.
    """
    present, counts = np.unique(labels, return_counts=True)
    chosen = []
    for label, share in zip(present, allocate(counts, total, least=least, spare=spare), strict=True):
        members = np.flatnonzero(labels == label)
        order = torch.randperm(len(members), generator=generator(seed, purpose, int(label))).numpy()
        chosen.append(members[order[:share]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def shuffled(places: IntArray, *, seed: int, purpose: str) -> IntArray:
    """The same places in a seeded order: files and folders are often sorted by class."""
    order: IntArray = torch.randperm(len(places), generator=generator(seed, purpose)).numpy()
    taken: IntArray = places[order]
    return taken


def to_unit(inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels in [0, 1]: uint8 divided by 255, floating point as it is."""
    return inputs.to(dtype).div_(255) if inputs.dtype == torch.uint8 else inputs.to(dtype)


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a data set.

    Attributes:
        store: [N, *shape] images, uint8 or float32; or the files they stay in until asked for.
        rows: [N] int64, each sample's place in the source's array (in `store`, where that is files).
        labels: [N] int64.
        indices: [N] int64, 0 .. N-1: each sample's place in this split, which addresses its random draws.
    """

    store: Tensor | FilePixels
    rows: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def inputs(self) -> Tensor:
        """All images as stored, [N, *shape] uint8 or float32; reads every file where they are on disk."""
        return self.store if isinstance(self.store, Tensor) else self.raw(self.indices)

    def raw(self, places: Tensor) -> Tensor:
        """Images as stored, [n, *shape] uint8 or float32, by their places in this split."""
        if isinstance(self.store, Tensor):
            return self.store[places]
        return _tensor(self.store[self.rows[places].numpy()])

    def pixels(self, places: Tensor) -> Tensor:
        """Images as float32 in [0, 1], [n, *shape], by their places in this split."""
        return to_unit(self.raw(places))


def _tensor(images: npt.NDArray[np.generic]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor if tensor.dtype == torch.uint8 else tensor.float()


def make_split(images: Pixels, labels: IntArray, rows: IntArray, *, keep_on_disk: bool) -> Split:
    """The split of some rows of a data set.

    Args:
        images: all images.
        labels: all labels.
        rows: which ones, in the order of the split.
        keep_on_disk: read images when asked for, if their source can.
    """
    on_disk = keep_on_disk and not isinstance(images, np.ndarray)
    return Split(
        store=images if on_disk else _tensor(images[rows]),  # type: ignore[arg-type]
        rows=torch.from_numpy(rows.copy()),
        labels=torch.from_numpy(labels[rows].astype(np.int64)),
        indices=torch.arange(len(rows)),
    )


def channel_statistics(split: Split, *, at_most: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a split's pixels in [0, 1], per channel (population formula, in float64).

    Args:
        split: usually the training split.
        at_most: look at the first so many samples only; None: at all.

    Returns:
        (mean, std), one number a channel; the std of a constant channel is given as 1, so that it can be divided by.
    """
    places = split.indices[:at_most]
    count = 0
    total, squares = torch.zeros(2, 1, dtype=torch.float64)
    for start in range(0, len(places), 4096):
        chunk = places[start : start + 4096]
        values = to_unit(split.raw(chunk), torch.float64).transpose(0, 1).flatten(1)
        count += values.shape[1]
        total, squares = total + values.sum(dim=1), squares + values.square().sum(dim=1)
    mean = total / count
    variance = squares / count - mean.square()
    std = torch.where(variance > 1e-12, variance.sqrt(), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
