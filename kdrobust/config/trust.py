"""Which packages of the user's own are trusted while a command runs: said by the user, never by a file that is read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_PACKAGES: ContextVar[tuple[str, ...]] = ContextVar("trusted_packages", default=())


def trusted_packages() -> tuple[str, ...]:
    """The packages that `trusting` has been entered with; none outside of it."""
    return _PACKAGES.get()


@contextmanager
def trusting(packages: Iterable[str] | None) -> Iterator[None]:
    """Let files that are read within name networks of these packages, too.

    They are looked for in the working directory, after all other places.

    Args:
        packages: what the user trusts: `trusted_modules` of the config; None: nothing.
    """
    named = (packages,) if isinstance(packages, str) else tuple(str(package) for package in packages or ())
    if named and str(Path.cwd()) not in sys.path:
        # a user's own packages lie where the user works; last, so that they hide nothing
        sys.path.append(str(Path.cwd()))
    token = _PACKAGES.set(named)
    try:
        yield
    finally:
        _PACKAGES.reset(token)
