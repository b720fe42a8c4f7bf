"""Reports: plots of a run, and the comparison of models as table and picture."""

from kdrobust.report.costs import cost_markdown, cost_notes, cost_table
from kdrobust.report.plots import adversarial_grid, comparison, training_curves
from kdrobust.report.rows import Figure, Row, attack_title, read_row, threat_text
from kdrobust.report.table import (
    comparison_csv,
    comparison_markdown,
    comparison_table,
    footnotes,
    human,
    print_table,
)

__all__ = [
    "Figure",
    "Row",
    "adversarial_grid",
    "attack_title",
    "comparison",
    "comparison_csv",
    "comparison_markdown",
    "comparison_table",
    "cost_markdown",
    "cost_notes",
    "cost_table",
    "footnotes",
    "human",
    "print_table",
    "read_row",
    "threat_text",
    "training_curves",
]
