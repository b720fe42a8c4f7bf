"""A split as torch's DataLoader wants it, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from kdrobust.data.batch import Batch
from kdrobust.data.splits import Split


class BatchDataset(Dataset[Batch]):
    """Gives the batch of an index tensor, for `DataLoader(..., sampler=<of index tensors>, batch_size=None)`.

    Args:
        split: the samples.
        outputs: teacher logits known beforehand, `"<teacher>.<view>"` to [N, K]; batches carry their rows.
    """

    def __init__(self, split: Split, outputs: Mapping[str, Tensor] | None = None) -> None:
        self.split = split
        self.outputs = dict(outputs or {})

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, places: Tensor) -> Batch:
        return Batch(
            inputs=self.split.raw(places),
            labels=self.split.labels[places],
            indices=self.split.indices[places],
            outputs={name: logits[places] for name, logits in self.outputs.items()},
        )


def as_it_is(batch: Any) -> Any:
    """The collate function of batches that are made whole."""
    return batch
