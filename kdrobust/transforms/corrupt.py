"""Every sample under one common corruption: the domain of a worse camera, or of a noisier room."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrobust.data.corruptions import corrupt, corruptions_for
from kdrobust.data.corruptions.table import check_names
from kdrobust.errors import UsageError
from kdrobust.spec import InputSpec


class Corrupt(nn.Module):
    """Images or recordings under one corruption at one severity, see `kdrobust.data.corruptions`.

    Args:
        spec: of what is corrupted: images in [0, 1], or recordings in [-1, 1].
        name: of the corruption.
        severity: 1 to 5.
        seed: address of the draws (noise, fog, rooms), which a sample's key completes.

    Attributes:
        spec: of what comes out, the same.
        draws: whether samples get noise of their own, by their keys.

    Raises:
        UsageError: an unknown corruption or severity, or one that such data cannot suffer.
    """

    def __init__(self, *, spec: InputSpec, name: str, severity: int = 3, seed: int = 0) -> None:
        super().__init__()
        known = corruptions_for(spec.shape)
        try:
            check_names([name], [severity], known)
        except UsageError as error:
            # it speaks of an evaluation's lists
            told = str(error).replace("corruptions.names", "name").replace("corruptions.severities", "severity")
            raise UsageError(told) from None
        self.name, self.severity, self.seed = name, severity, seed
        self.draws = known[name].draws
        self.spec = spec

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """[B, *shape], in the same range; a sample gets what its key ([B] integers, by default its place) addresses."""
        keys = torch.arange(len(inputs), device=inputs.device) if keys is None else keys
        return corrupt(inputs, self.name, self.severity, keys=keys, seed=self.seed)
