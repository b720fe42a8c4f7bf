"""Confidence intervals of shares."""

from __future__ import annotations

import math

from kdrobust.intervals import wilson

__all__ = ["paired_error", "wilson"]


def paired_error(only_first: int, only_second: int, n: int) -> float:
    """Standard error of the difference of two shares measured on the same samples.

    With b and c the samples that only the first or only the second counts: `sqrt(b + c - (b - c)²/n) / n`.

    Args:
        only_first: b.
        only_second: c.
        n: all samples; 0 gives 0.

    Source: Agresti, Categorical Data Analysis, 3rd edition (2013), section 11.1.1 (dependent proportions).
    """
    if n == 0:
        return 0.0
    return math.sqrt(max(0.0, only_first + only_second - (only_first - only_second) ** 2 / n)) / n
