"""Means over an epoch of what every training step measures, kept so that a resumed epoch goes on with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdrobust.losses.collective import global_sum


@dataclass
class _Sum:
    """Sums of figures that were measured together, on the device and on the host, and of their weights."""

    tensors: Tensor
    numbers: Tensor
    weight: int = 0

    def add(self, row: Tensor, numbers: Tensor, weight: int) -> None:
        self.tensors += row * weight
        self.numbers += numbers * weight
        self.weight += weight


@dataclass(frozen=True)
class _Step:
    number: int
    names: tuple[tuple[str, ...], tuple[str, ...]]
    row: Tensor
    numbers: Tensor
    weight: int


@dataclass
class EpochMeans:
    """Weighted means over the steps of an epoch and over the processes.

    A step costs one small copy: its figures are kept as a row on the device and added up when somebody looks. Reading
    one on the host would wait for the device.
    """

    _sums: dict[tuple[tuple[str, ...], tuple[str, ...]], _Sum] = field(default_factory=dict)
    _pending: list[_Step] = field(default_factory=list)

    def add(
        self, step: int, names: Sequence[str], row: Tensor, *, numbers: Mapping[str, float] | None = None, weight: int
    ) -> None:
        """Take a step's figures in.

        Args:
            step: its number, for `first_nonfinite`.
            names: of the figures in `row`.
            row: [n], detached.
            numbers: figures that the host knows.
            weight: the step's number of samples.
        """
        plain = numbers or {}
        values = torch.tensor(list(plain.values()), dtype=torch.float32)
        self._pending.append(_Step(step, (tuple(names), tuple(plain)), row, values, weight))

    def first_nonfinite(self) -> tuple[int, list[str]] | None:
        """The first step since the last look with a figure that is NaN or infinite, and those figures' names.

        Waits for the device once, however many steps there were.
        """
        pending = self._pending
        same = bool(pending) and all(step.names == pending[0].names for step in pending)
        if not pending or (same and bool(torch.stack([step.row for step in pending]).isfinite().all())):
            return None
        for step in pending:
            finite = step.row.isfinite().tolist()
            broken = [name for name, fine in zip(step.names[0], finite, strict=True) if not fine]
            if broken:
                return step.number, broken
        return None

    def drop(self) -> None:
        """Forget the steps since `settle`: what they measured is no part of the epoch."""
        self._pending.clear()

    def settle(self) -> None:
        """Add the kept rows up, in their order."""
        for step in self._pending:
            kept = self._sums.get(step.names)
            if kept is None:
                kept = self._sums[step.names] = _Sum(torch.zeros_like(step.row), torch.zeros_like(step.numbers))
            elif kept.tensors.device != step.row.device:
                kept.tensors = kept.tensors.to(step.row.device)
            kept.add(step.row, step.numbers, step.weight)
        self._pending.clear()

    def take(self, device: torch.device) -> dict[str, Tensor]:
        """The means of all processes, each []; the next epoch begins with nothing."""
        self.settle()
        totals: dict[str, Tensor] = {}
        weights: dict[str, int] = {}
        for (names, plain), kept in self._sums.items():
            parts = [*zip(names, kept.tensors, strict=True), *zip(plain, kept.numbers.to(device), strict=True)]
            for name, value in parts:
                totals[name] = totals[name] + value if name in totals else value
                weights[name] = weights.get(name, 0) + kept.weight
        self._sums.clear()
        if not totals:
            return {}
        order = sorted(totals)
        sums = torch.stack([totals[name].to(device) for name in order])
        sums, counts = global_sum(torch.stack([sums, sums.new_tensor([float(weights[name]) for name in order])]))
        return dict(zip(order, sums / counts, strict=True))

    def state_dict(self) -> list[dict[str, Any]]:
        """The sums so far, as plain values and tensors on the CPU."""
        self.settle()
        return [
            {
                "names": [list(part) for part in names],
                "tensors": kept.tensors.cpu(),
                "numbers": kept.numbers,
                "weight": kept.weight,
            }
            for names, kept in self._sums.items()
        ]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore `state_dict`."""
        self._pending.clear()
        self._sums = {
            (tuple(kept["names"][0]), tuple(kept["names"][1])): _Sum(kept["tensors"], kept["numbers"], kept["weight"])
            for kept in state
        }
