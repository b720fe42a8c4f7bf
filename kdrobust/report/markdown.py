"""Tables as Markdown text."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(lines: Sequence[Sequence[str]], *, words: int | None = 1) -> str:
    """A Markdown table; a cell's bars are escaped and its line breaks become spaces.

    Args:
        lines: cells, the heading's first; all lines are equally long.
        words: how many columns are words and stand left, those after them are numbers and stand right; None: all.

    Raises:
        ValueError: a line of another length, which readers would shift or cut silently.
    """
    heading, *rows = lines
    if odd := next((row for row in rows if len(row) != len(heading)), None):
        raise ValueError(f"{len(heading)} columns, but a line has {len(odd)} cells: {odd}")
    left = len(heading) if words is None else words
    rule = ["---" if place < left else "---:" for place in range(len(heading))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (_cells(heading), rule, *map(_cells, rows)))


def _cells(line: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in line]
