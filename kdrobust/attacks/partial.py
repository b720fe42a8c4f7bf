"""What a long attack leaves behind after each of its parts, so that one that was killed goes on with the next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor


class Partial(Protocol):
    """Where an attack of several parts keeps how far it has come. An attack that takes one has `resumable = True`."""

    def load(self) -> Mapping[str, Tensor] | None:
        """What was saved last, on the CPU; None at the beginning."""

    def save(self, values: Mapping[str, Tensor]) -> None:
        """Keep this instead of what was saved before."""


def pack_notes(notes: Iterable[str]) -> Tensor:
    """Lines of text as a tensor, [bytes] uint8."""
    return torch.tensor(list(json.dumps(list(notes)).encode()), dtype=torch.uint8)


def unpack_notes(packed: Tensor) -> list[str]:
    """What `pack_notes` packed."""
    lines: list[str] = json.loads(bytes(packed.tolist()).decode())
    return lines
