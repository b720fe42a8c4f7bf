"""How loud a perturbation is beside the signal it was added to."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from kdrobust.evaluation.outcome import Floats


def signal_to_noise(adversarial: Tensor, inputs: Tensor) -> Tensor:
    r"""Signal-to-noise ratio of each sample in decibels, $20 \log_{10} (\|x\|_2 / \|x' - x\|_2)$, [B].

    Meaningful for signals that swing around zero, such as sound. Infinite where nothing was changed; about 0 dB the
    perturbation is as loud as the signal, at 30 dB its amplitude is a thirtieth.

    Args:
        adversarial: x', [B, ...].
        inputs: x, [B, ...].
    """
    signal = inputs.double().flatten(1).norm(dim=1)
    noise = (adversarial.double() - inputs.double()).flatten(1).norm(dim=1)
    decibels: Tensor = 20.0 * (signal.log10() - noise.log10())
    return decibels


def noise_summary(decibels: Floats) -> dict[str, Any] | None:
    """Mean, median and minimum over the samples that were changed; None where none was.

    Args:
        decibels: [N], see `signal_to_noise`; NaN where a sample was not attacked.
    """
    changed = decibels[np.isfinite(decibels)].astype(np.float64)
    if not len(changed):
        return None
    return {
        "mean": float(changed.mean()),
        "median": float(np.median(changed)),
        "min": float(changed.min()),
        "n": len(changed),
    }
