"""The comment lines a YAML of conf/ begins with: what it is, whose, what it needs and costs. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdrobust.errors import UsageError

#: What a header may say on a line `Name: text`; a deeper indented line goes on with the one before.
FIELDS = ("Source", "Formula", "Needs", "Cost", "Official code", "Pitfall", "Published figures", "Command", "Leaves")
_PASSES = re.compile(r"(\d+) student pass")
_ASKED = re.compile(r"(\d+) (?:teacher|peer) (?:forward|pass)")
_YEAR = re.compile(r"\b(19|20)\d\d\b")


@dataclass(frozen=True, kw_only=True)
class Header:
    """A YAML's header.

    Attributes:
        summary: the first line.
        fields: what stands on the lines `Name: text`, by name.
        notes: the other lines.
    """

    summary: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        """A field's text, "" where there is none."""
        return self.fields.get(name, "")

    @property
    def year(self) -> int | None:
        """The year of the source, if it names one."""
        found = _YEAR.search(self["Source"])
        return int(found[0]) if found else None

    @property
    def paper(self) -> str:
        """The source in a few words: `Zi et al., ICCV 2021`."""
        source = re.split(r";| \(|, arXiv", self["Source"])[0].strip()
        return "" if source == "none" else source

    @property
    def student_passes(self) -> int | None:
        """Student passes (forward with a graph, and its backward) of a training step, by default settings."""
        found = _PASSES.match(self["Cost"])
        return int(found[1]) if found else None

    @property
    def teacher_passes(self) -> int:
        """Forward passes of all teachers and partners in a training step, by default settings."""
        found = _ASKED.search(self["Cost"])
        return int(found[1]) if found else 0


def header_lines(path: Path) -> list[str]:
    """The comment lines a YAML file begins with, without `#` and without Hydra's `@package` line.

    Raises:
        UsageError: the file cannot be read.
    """
    lines = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        content = line[1:].removeprefix(" ").rstrip()
        if not content.startswith("@package"):
            lines.append(content)
    return lines


def read_header(path: Path) -> Header:
    """The header of a YAML file, taken apart.

    Raises:
        UsageError: the file cannot be read.
    """
    lines = header_lines(path)
    fields: dict[str, str] = {}
    notes: list[str] = []
    current = ""
    for line in lines[1:]:
        name, colon, text = line.partition(":")
        if colon and name in FIELDS:
            current = name
            fields[name] = text.strip()
        elif line.startswith(" ") and current:
            glue = "\n" if current == "Command" else " "
            fields[current] += glue + line.strip()
        else:
            current = ""
            notes.append(line)
    return Header(summary=lines[0] if lines else "", fields=fields, notes=tuple(notes))
