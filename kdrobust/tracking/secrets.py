"""Secrets never reach a file or a log: what the environment calls one, credentials in addresses, and keys so named."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MASK = "***"
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_PLACES = re.compile(r"(FILE|PATH|DIR|SOCK)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']+@")
_SECRET_KEY = re.compile(
    r"(^|[._-])(\w*(api[_-]?key|access[_-]?key|private[_-]?key|token|secret|password|passwd|credential)s?)$", re.I
)
# from a word's beginning only: begun anew at each of its letters, a text of n letters would take n² steps
_ASSIGNED = re.compile(
    r"((?<![\w.+-])[\w.+-]*(?:api[_-]?key|access[_-]?key|private[_-]?key|token|secret|password|passwd|credential)s?=)(?!null\b|true\b|false\b)"
    r"('[^']*'|\"[^\"]*\"|[^\s,&}\]]+)",
    re.IGNORECASE,
)
# shorter values are words or numbers that also stand for other things
_LEAST = 8


def known_secrets() -> list[str]:
    """Values of this process's environment that are secrets by their variable's name, longest first.

    Paths to files that hold a secret, numbers, and values of fewer than 8 characters do not count.
    """
    values = {
        value
        for name, value in os.environ.items()
        if _NAMES.search(name)
        and not _PLACES.search(name)
        and len(value) >= _LEAST
        and not re.fullmatch(r"[\d.]+", value)
        and not (value.startswith("/") and Path(value).exists())
    }
    return sorted(values, key=len, reverse=True)


def redact(text: str) -> str:
    """A text with the environment's secrets, and user and password in addresses, replaced by `***`."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """`redact` with the secrets that are known now: for many texts at once."""
    secrets = known_secrets()

    def function(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return _CREDENTIALS.sub(MASK + "@", text)

    return function


def redact_line(text: str) -> str:
    """`redact`, and the values of what reads `token=...`: for command lines and overrides."""
    return _ASSIGNED.sub(lambda found: found[1] + MASK, redact(text))


def redacted(value: Any) -> Any:
    """Plain data with every text through `redact_line`, and the texts of keys called `token`, `password` ... masked."""
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(item, str) and item and _SECRET_KEY.search(str(key)) else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return redact_line(value) if isinstance(value, str) else value


def secret_keys(value: Any, key: str = "") -> list[str]:
    """The dotted keys of plain data whose values `redacted` masks, or has masked already."""
    if isinstance(value, Mapping):
        return [
            found
            for name, item in value.items()
            for found in (
                [f"{key}{name}"]
                if isinstance(item, str) and item and _SECRET_KEY.search(str(name))
                else secret_keys(item, f"{key}{name}.")
            )
        ]
    if isinstance(value, list | tuple):
        return [found for place, item in enumerate(value) for found in secret_keys(item, f"{key}{place}.")]
    is_secret = isinstance(value, str) and (MASK in value or redact_line(value) != value)
    return [key.rstrip(".")] if is_secret else []


def place_problems(places: Mapping[str, Any]) -> list[str]:
    """Secrets in what becomes the name of a folder, which no mask can hide; one line each.

    Args:
        places: the keys of names and paths with their values.
    """
    return [
        f"{key}: holds a secret, and becomes the name of a folder that everyone who lists it reads; choose another name"
        for key, value in places.items()
        if value is not None and redact_line(str(value)) != str(value)
    ]


def redact_yaml(path: Path) -> None:
    """Take the secrets out of a YAML file that another library has written; a file without any is not touched."""
    import yaml

    try:
        before = path.read_text(encoding="utf-8")
        plain = yaml.safe_load(before)
    except (OSError, ValueError, yaml.YAMLError):
        return
    after = redacted(plain)
    if after != plain:
        path.write_text(yaml.safe_dump(after, sort_keys=False, allow_unicode=True), encoding="utf-8")


def redact_logs() -> None:
    """From now on, let no message of Python's logging hold a secret; a second call does nothing."""
    factory = logging.getLogRecordFactory()
    if getattr(factory, "redacts", False):
        return

    def redacting(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = factory(*arguments, **options)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            return record
        if redact_line(message) != message:
            record.msg, record.args = redact_line(message), ()
        return record

    redacting.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacting)
