"""Results side by side: what a pipeline and an evaluation print and save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.report import comparison, comparison_csv, comparison_markdown, comparison_table, print_table
from kdrobust.tracking import write_text


def print_comparison(models: Sequence[Mapping[str, Any]]) -> None:
    """Print the table and its notes; `models` have a `name` and `results`, those of stage `evaluate`, one a seed."""
    print_table(comparison_table(models))


def write_comparison(models: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Write the table as Markdown and CSV and draw it; returns what was written, name to file."""
    write_text(folder / "comparison.md", comparison_markdown(models))
    write_text(folder / "comparison.csv", comparison_csv(models))
    comparison(models, folder / "comparison.png")
    return {"table": "comparison.md", "csv": "comparison.csv", "plot": "comparison.png"}
