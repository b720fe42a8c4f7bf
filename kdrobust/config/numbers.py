"""Numbers as people in this field write them: `0.1`, `8/255`, `1/6`."""

from __future__ import annotations

import math
import re
from typing import Any

_FRACTION = re.compile(r"\s*([-+]?[0-9.eE+-]+?)\s*/\s*([0-9.eE+-]+)\s*")


def as_number(value: Any, key: str = "value") -> float:
    """Read a number or a fraction.

    Args:
        value: a number, or a string such as `"8/255"` or `"0.1"`.
        key: the config key, for the error.

    Raises:
        ValueError: it is neither, or it is not finite.
    """
    if isinstance(value, bool):
        raise ValueError(f"{key}: expected a number or a fraction such as 8/255, got {value}")
    if isinstance(value, int | float):
        number = float(value)
    else:
        text = str(value)
        match = _FRACTION.fullmatch(text)
        try:
            number = float(match[1]) / float(match[2]) if match else float(text)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{key}: expected a number or a fraction such as 8/255, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{key}: expected a finite number, got {value!r}")
    return number


def is_number(value: Any) -> bool:
    """Whether `as_number` reads it."""
    try:
        as_number(value)
    except ValueError:
        return False
    return True
