"""Wilson's interval, for whoever shows a share."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, the one to use near 0 and 1 and for few samples.

    With p = successes / n and z the two-sided normal quantile:
    `(p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`.

    Args:
        successes: how many of `n` succeeded.
        n: how many were tried; 0 says nothing, so the interval is (0, 1).
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: `successes` outside 0 .. n, or `confidence` outside (0, 1).

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927), 209-212;
        recommended by Brown, Cai & DasGupta, Statistical Science 16 (2001), 101-133.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0 .. n, got {successes} of {n}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is a share in (0, 1), got {confidence}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1.0 + z * z / n
    # at the ends the exact values are 0 and 1; rounding would leave 1e-17 beside them
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high
