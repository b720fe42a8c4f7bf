"""Learning-rate schedules that are said in shares of the training, so that they survive another number of epochs."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR


def multistep(
    optimizer: Optimizer, *, epochs: int, at: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> MultiStepLR:
    """Multiply the learning rate by `gamma` at given shares of the training.

    Args:
        optimizer: whose rate.
        epochs: length of the training.
        at: shares in (0, 1); RSLAD's 215, 260 and 285 of 300 epochs are 0.717, 0.867, 0.95.
        gamma: the factor.

    Raises:
        ValueError: a share outside (0, 1).
    """
    outside = [share for share in at if not 0.0 < share < 1.0]
    if outside:
        raise ValueError(f"scheduler.factory.at: shares of the training lie in (0, 1), got {outside}")
    return MultiStepLR(optimizer, milestones=[max(1, round(share * epochs)) for share in sorted(at)], gamma=gamma)
