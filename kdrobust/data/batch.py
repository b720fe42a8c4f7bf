"""The batch that travels from the data module to the objective."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

#: The label of a sample whose class is not known, or not to be looked at.
UNKNOWN = -1


@dataclass
class Batch:
    """One batch.

    Attributes:
        inputs: [B, *shape], values in [0, 1] (uint8 until it has reached the device).
        labels: [B] int64 in 0 .. K-1; `UNKNOWN` where the data are used without labels.
        indices: [B] int64, each sample's place in its split: the address of its random draws.
        adversarial: [B, *shape], set by the attack; None until then.
        survived: [B] steps of the inner attack each sample withstood, where a method counts them.
        outputs: teacher logits known beforehand, `"<teacher>.<view>"` to [B, K]: from storage, or computed once and
            kept here for the attack and the objective to share.
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor
    adversarial: Tensor | None = None
    survived: Tensor | None = None
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = {key: value.to(device, non_blocking=non_blocking) for key, value in self.outputs.items()}
        return replace(
            self,
            inputs=self.inputs.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            indices=self.indices.to(device, non_blocking=non_blocking),
            adversarial=None if self.adversarial is None else self.adversarial.to(device, non_blocking=non_blocking),
            survived=None if self.survived is None else self.survived.to(device, non_blocking=non_blocking),
            outputs=moved,
        )
