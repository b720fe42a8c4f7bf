"""`did you mean`: the one phrase every complaint about a name ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 24


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean method.alpha?`, or an empty string where nothing is close.

    Args:
        name: what was written.
        known: what exists.
        prefix: put before the suggestion, e.g. `"method."`.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def available(names: Iterable[str]) -> str:
    """Names for the end of a line, sorted, cut where there are too many."""
    listed = sorted(set(names))
    more = f", ... ({len(listed)} in all)" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
