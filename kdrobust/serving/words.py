"""Values of `key=value` words on the command lines that are read without Hydra."""

from __future__ import annotations

from kdrobust.errors import UsageError


def truth(task: str, key: str, text: str) -> bool:
    """`true` or `false`.

    Raises:
        UsageError: anything else; names task and key.
    """
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{task} {key}={text}: expected true or false")
    return text.lower() == "true"


def count(task: str, key: str, text: str) -> int:
    """A whole number of at least 1.

    Raises:
        UsageError: anything else; names task and key.
    """
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{task} {key}={text}: expected an integer >= 1")
    return int(text)


def packages(task: str, key: str, text: str) -> tuple[str, ...]:
    """Package names: `[acme]`, `[acme,other]`, or the same without brackets.

    Raises:
        UsageError: anything else; names task and key.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    names = tuple(name.strip().strip("'\"") for name in inner.split(","))
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise UsageError(f"{task} {key}={text}: expected package names, e.g. {key}=[acme]")
    return names
