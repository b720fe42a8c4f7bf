"""Numbers that a network is made by: refused where a layer would be empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdrobust.errors import UsageError


class NetworkSizeError(UsageError):
    """A size that no network can have; begins with the argument's name, below the network's key."""


def require_counts(*, empty: Sequence[str] = (), **values: int | Sequence[int] | None) -> None:
    """Refuse what is no whole number of at least 1.

    Args:
        empty: names of lists that may be empty, and of numbers that may be 0: no such layer.
        values: numbers and lists of numbers by their arguments' names; None is left to the network.

    Raises:
        NetworkSizeError: names the argument.
    """
    for name, value in values.items():
        if value is None:
            continue
        is_list = not isinstance(value, int | float | str)
        items: list[Any] = list(value) if is_list else [value]  # type: ignore[arg-type]
        least = 0 if name in empty and not is_list else 1
        if (is_list and not items and name not in empty) or not all(_is_count(item, least) for item in items):
            expected = "whole numbers" if is_list else "a whole number"
            raise NetworkSizeError(f"{name}={items if is_list else value}: expected {expected} of at least {least}")


def require_factors(**values: float) -> None:
    """Refuse what is no factor on a network's channels: a finite number larger than 0.

    Raises:
        NetworkSizeError: names the argument.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not 0 < value < float("inf"):
            raise NetworkSizeError(f"{name}={value}: expected a number larger than 0")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
