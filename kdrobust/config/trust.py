"""What of the user's own is trusted while a command runs: said by the user, never by a file that is read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kdrobust.errors import UsageError

#: Beside packages, what a config may trust: `model.trust=true` opens files that are code.
CODE = "model.trust"

_PACKAGES: ContextVar[tuple[str, ...]] = ContextVar("trusted_packages", default=())
_CONSENT: ContextVar[tuple[tuple[str, ...], str] | None] = ContextVar("consent", default=None)


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


@contextmanager
def consenting(given: Sequence[str], remedy: str = "typed") -> Iterator[None]:
    """Run by what a folder says: of what it trusts, only what the user has named in this command is.

    Args:
        given: names of packages, and `CODE`.
        remedy: how the user names them: `typed` as keys of a config, or the flag that takes names, as `--trust`.
    """
    token = _CONSENT.set((tuple(given), remedy))
    try:
        yield
    finally:
        _CONSENT.reset(token)


def require_consent(cfg: Any) -> None:
    """Refuse a config out of a folder that trusts more than the user has named; one that was typed is the user's own.

    Args:
        cfg: a config, composed or resolved.

    Raises:
        UsageError: names what it trusts, and how to say that one does.
    """
    consent = _CONSENT.get()
    if consent is None:
        return
    given, remedy = consent
    missing = [name for name in trusts(cfg) if name not in given]
    if not missing:
        return
    what = "opens files that are code (model.trust=true)" if missing[0] == CODE else f"imports {missing[0]}"
    said = typed(missing) if remedy == "typed" else " ".join(f"{remedy} {name}" for name in missing)
    raise UsageError(f"trusted_modules: the folder's config {what}; if you trust it, add {said}")


def trusts(cfg: Any) -> list[str]:
    """What a config trusts, wherever in it: packages, and `CODE` where it opens files that are code."""
    from omegaconf import OmegaConf

    found: dict[str, None] = {}

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            packages = node.get("trusted_modules")
            for name in [packages] if isinstance(packages, str) else packages or []:
                found.setdefault(str(name))
            model = node.get("model")
            if isinstance(model, Mapping) and model.get("trust"):
                found.setdefault(CODE)
        for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
            visit(child)

    visit(OmegaConf.to_container(cfg) if OmegaConf.is_config(cfg) else cfg)
    return list(found)


def typed(names: Sequence[str]) -> str:
    """What is trusted, as one types it: `trusted_modules=[acme] model.trust=true`; empty for nothing."""
    packages = [name for name in names if name != CODE]
    return " ".join([f"trusted_modules=[{','.join(packages)}]"] * bool(packages) + [f"{CODE}=true"] * (CODE in names))


def read_typed(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What arguments trust, and the other arguments.

    Args:
        arguments: of a command line, e.g. `trusted_modules=[acme]`, `model.trust=true`.
    """
    names: list[str] = []
    others: list[str] = []
    for text in arguments:
        key, _, value = text.partition("=")
        if key == "trusted_modules":
            names += [name.strip() for name in value.strip("[]").split(",") if name.strip()]
        elif key == CODE and value.lower() == "true":
            names.append(CODE)
        else:
            others.append(text)
    return names, others
