"""Whether an exported model answers as the one it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdrobust.evaluation.predict import predict_all, to_unit

#: How far a float model's logits may move by being exported, beside logits of size one.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A sample that two models classify differently.

    Attributes:
        index: its place in the split.
        label: its true class.
        before: what the model said that was exported.
        after: what the exported one says.
        margin: how much higher than the second-best the first model's best logit was.
    """

    index: int
    label: int
    before: int
    after: int
    margin: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two models' answers to the same samples.

    Attributes:
        n: how many samples.
        max_difference: largest |difference| of a logit over all samples and classes, also of each sample in a batch of
            its own for the first few.
        scale: largest |logit| of the first model.
        differing: the samples whose predicted class differs.
    """

    n: int
    max_difference: float
    scale: float
    differing: tuple[Difference, ...]

    @property
    def within_tolerance(self) -> bool:
        """Whether no logit moved by more than `TOLERANCE`, relative where logits are larger than one."""
        return self.max_difference <= TOLERANCE * max(1.0, self.scale)


@torch.no_grad()
def agreement(
    model: nn.Module, exported: nn.Module, *, inputs: Tensor, labels: Tensor, indices: Tensor, batch_size: int
) -> Agreement:
    """Compare an exported model with the one it was made from.

    Args:
        model: in eval mode, on the CPU.
        exported: what is to answer alike, in batches of any size.
        inputs: [N, ...], uint8 or floats in [0, 1].
        labels: [N] int64.
        indices: [N] int64, each sample's place in its split.
        batch_size: samples at once.
    """
    pixels = to_unit(inputs, "cpu")
    before, after = predict_all(model, pixels, batch_size), predict_all(exported, pixels, batch_size)
    # a file that was exported for one batch size answers wrongly, or not at all, to another
    alone = predict_all(exported, pixels[:3], 1)
    apart = torch.cat([(before - after).abs().flatten(), (before[:3] - alone).abs().flatten()])
    best = before.topk(2, dim=1)
    rows = torch.nonzero(before.argmax(dim=1) != after.argmax(dim=1)).flatten().tolist()
    return Agreement(
        n=len(labels),
        max_difference=float(apart.max()),
        scale=float(before.abs().max()),
        differing=tuple(
            Difference(
                index=int(indices[row]),
                label=int(labels[row]),
                before=int(best.indices[row, 0]),
                after=int(after[row].argmax()),
                margin=float(best.values[row, 0] - best.values[row, 1]),
            )
            for row in rows
        ),
    )
