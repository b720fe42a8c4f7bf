"""Reading an attack's settings: each mistake is one line that names the key."""

from __future__ import annotations

from kdrobust.config.numbers import as_number
from kdrobust.errors import UsageError


def number(key: str, value: float | str, *, positive: bool = False, most: float | None = None) -> float:
    """A number or fraction that is not negative.

    Args:
        key: the setting's name.
        value: what was given.
        positive: refuse 0 too.
        most: the largest value allowed.

    Raises:
        UsageError: no such number; names `attack.KEY`.
    """
    try:
        found = as_number(value, f"attack.{key}")
    except ValueError as error:
        raise UsageError(str(error)) from None
    if found < 0:
        raise UsageError(f"attack.{key}={value}: must not be negative")
    if positive and not found:
        raise UsageError(f"attack.{key}={value}: must be larger than 0")
    if most is not None and found > most:
        raise UsageError(f"attack.{key}={value}: must be at most {most:g}")
    return found


#: More steps, queries or restarts of one attack are not computed in a lifetime.
_MOST = 10**7


def count(key: str, value: int, *, least: int) -> int:
    """A whole number of at least `least`, and at most ten million.

    Raises:
        UsageError: anything else; names `attack.KEY`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"attack.{key}={value}: expected a whole number")
    if value < least:
        raise UsageError(f"attack.{key}={value}: must be at least {least}")
    if value > _MOST:
        raise UsageError(f"attack.{key}={value}: must be at most {_MOST}")
    return value


def choice(key: str, value: str, known: tuple[str, ...]) -> str:
    """One of the known words.

    Raises:
        UsageError: anything else; names `attack.KEY`.
    """
    if value not in known:
        raise UsageError(f"attack.{key}={value}: no such choice; there are {', '.join(known)}")
    return value
