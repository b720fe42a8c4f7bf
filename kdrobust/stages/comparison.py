"""Results side by side: what a pipeline and an evaluation print and save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kdrobust.evaluation import Comparison, compare, read_samples
from kdrobust.report import (
    comparison,
    comparison_csv,
    comparison_markdown,
    comparison_table,
    cost_markdown,
    cost_table,
    paired_line,
    print_table,
)
from kdrobust.tracking import write_text


def print_comparison(models: Sequence[Mapping[str, Any]]) -> None:
    """Print the table and its notes; `models` have a `name` and `results`, those of stage `evaluate`, one a seed."""
    print_table(comparison_table(models))


def write_comparison(
    models: Sequence[Mapping[str, Any]], folder: Path, *, costs: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Write the table as Markdown and CSV and draw it, and write the costs; returns what was written, name to file.

    Args:
        models: see `print_comparison`.
        folder: where.
        costs: those of them whose cost is told: each model once.
    """
    write_text(folder / "comparison.md", comparison_markdown(models))
    write_text(folder / "comparison.csv", comparison_csv(models))
    write_text(folder / "costs.md", cost_markdown(costs))
    comparison(models, folder / "comparison.png")
    return {"table": "comparison.md", "csv": "comparison.csv", "costs": "costs.md", "plot": "comparison.png"}


def print_costs(models: Sequence[Mapping[str, Any]]) -> None:
    """Print what each model costs beside what it withstands, the first as a multiple of the last."""
    print_table(cost_table(models))


def paired(
    first: str, second: str, folders: Mapping[int, tuple[Path, Path]], confidence: float, threat: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Two kinds of model on the same samples, seed by seed: clean and in the worst case.

    Args:
        first: what the first kind is called.
        second: the second.
        folders: seed to both kinds' evaluation folders.
        confidence: of the intervals.
        threat: both were evaluated under.

    Returns:
        Entries for `comparisons` of a result; `text` is the sentence to print.
    """
    lines = []
    for seed, places in folders.items():
        samples = [read_samples(place / "samples.npz") for place in places]
        for column in ("clean", "worst_case"):
            found = compare(*samples, column=column, confidence=confidence)
            names = (f"{first} (seed {seed})", f"{second} (seed {seed})")
            lines.append(paired_entry(names, found, float(threat["eps"])))
    return lines


def paired_entry(names: tuple[str, str], found: Comparison, eps: float) -> dict[str, Any]:
    """One paired comparison as plain values, with its sentence."""
    values = {
        key: list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value
        for key, value in asdict(found).items()
    }
    return {"first": names[0], "second": names[1], "eps": eps, **values, "text": paired_line(*names, found)}
