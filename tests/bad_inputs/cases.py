"""The form of a bad input: what lies in the folder, what is typed, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: seconds, not minutes, should one of them be accepted by mistake
TINY = ("epochs=1", "data.limit_train=64", "data.limit_validation=20", "attack.steps=1", "threads=1")


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad input.

    Attributes:
        what: names it.
        typed: the arguments of `kdrobust`, or of `python -m kdrobust.conformance` where `conformance` is true.
        words: what its line must hold: the key or file, and the remedy.
        code: the exit code.
        lines: how many lines it may take.
        files: relative path to content: text, bytes, or a function that writes to the path.
        conformance: which of the two programs.
    """

    what: str
    typed: tuple[str, ...]
    words: tuple[str, ...]
    code: int = 2
    lines: int = 1
    files: dict[str, str | bytes | Callable[[Path], Any]] = field(default_factory=dict)
    conformance: bool = False


def lay_out(case: Bad, folder: Path) -> None:
    """Write a case's files."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
