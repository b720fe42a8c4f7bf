"""Array files: what other libraries' own attacks returned on a small model, against ours."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.errors import DataError

#: How ours has to stand to theirs: equal, different (theirs is a documented fault), or no farther (a distance).
Rule = Literal["equal", "differ", "no_farther"]
#: How far ours must at least lie from a documented fault.
DIFFERENT = 1e-6
#: How much farther than the reference the nearest adversarial example may lie.
FARTHER = 0.02

_WEIGHTS = ("conv_w", "conv_b", "fc_w", "fc_b")


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """An array file, its model and samples in float64.

    Attributes:
        name: where it was read from.
        arrays: every array by its key.
        inputs: x, [B, ...].
        labels: y, [B] int64.
    """

    name: str
    arrays: dict[str, Tensor]
    inputs: Tensor
    labels: Tensor

    def get(self, key: str) -> Tensor:
        """An array.

        Raises:
            DataError: the file has none of that name.
        """
        if key not in self.arrays:
            raise DataError(f"{self.name}: no array {key}")
        return self.arrays[key]

    def model(self, prefix: str = "model") -> Callable[[Tensor], Tensor]:
        """The stored network (convolution of stride 2, ReLU, linear layer): inputs to logits.

        Raises:
            DataError: the file has no such network.
        """
        conv, bias, linear, shift = (self.get(f"{prefix}/{name}").double() for name in _WEIGHTS)
        return lambda x: F.relu(F.conv2d(x, conv, bias, stride=2)).flatten(1) @ linear.T + shift


@dataclass(frozen=True, kw_only=True)
class ArrayOutcome:
    """What came of one array.

    Attributes:
        key: its name in the file.
        rule: how ours has to stand to it.
        error: the largest absolute difference; for `no_farther` the largest relative excess over the reference.
        tolerance: what is allowed, or for `differ` asked for.
        problem: why it could not be compared, or "".
    """

    key: str
    rule: Rule = "equal"
    error: float = float("nan")
    tolerance: float = 0.0
    problem: str = ""

    @property
    def method(self) -> str:
        """The attack, as the file names it."""
        return self.key.split("/")[0]

    @property
    def passed(self) -> bool:
        """Whether ours stands to it as it has to."""
        if self.problem:
            return False
        return self.error > self.tolerance if self.rule == "differ" else self.error <= self.tolerance


def read_arrays(path: str | Path) -> ArrayFile:
    """Read an array file.

    Raises:
        DataError: missing, no such file, or without the samples; one line.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable .npz of arrays ({reason})") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise DataError(f"{path}: no array {key}; expected the keys of an attack vector file")
    return ArrayFile(name=str(path), arrays=arrays, inputs=arrays["x"].double(), labels=arrays["y"].long())


def compare(key: str, ours: Tensor, theirs: Tensor, rule: Rule, tolerance: float) -> ArrayOutcome:
    """Set ours against theirs.

    Args:
        key: the array's name.
        ours: what our attack returned.
        theirs: the array, of the same shape.
        rule: how they have to stand to each other.
        tolerance: for `equal`.
    """
    if ours.shape != theirs.shape:
        return ArrayOutcome(key=key, rule=rule, problem=f"ours is {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
    mine, other = ours.double(), theirs.double()
    if rule == "no_farther":
        return ArrayOutcome(key=key, rule=rule, error=_excess(mine, other), tolerance=FARTHER)
    error = float((mine - other).abs().max()) if mine.numel() else 0.0
    error = error if error == error else float("inf")
    return ArrayOutcome(key=key, rule=rule, error=error, tolerance=DIFFERENT if rule == "differ" else tolerance)


def _excess(ours: Tensor, theirs: Tensor) -> float:
    """By which share ours is farther than theirs, at most; where they found nothing, nothing is asked."""
    known = theirs.isfinite()
    # at distance zero only zero will do
    scale = torch.where(theirs > 0, theirs, torch.finfo(theirs.dtype).tiny)
    excess = ((ours - theirs) / scale)[known]
    worst = float(excess.clamp(min=0.0).max()) if len(excess) else 0.0
    return worst if worst == worst else float("inf")


def chosen(file: ArrayFile, only: Collection[str]) -> list[str]:
    """The keys to compare: all, or those of some attacks."""
    return [key for key in file.arrays if not only or key.split("/")[0] in only]
