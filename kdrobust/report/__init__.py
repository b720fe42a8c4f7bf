"""Reports: plots of a run, and the comparison of models as table and picture."""

from kdrobust.report.plots import adversarial_grid, comparison, training_curves
from kdrobust.report.rows import Figure, Row, attack_title, read_row, threat_text
from kdrobust.report.table import csv_text, footnotes, human, markdown, rich_table

__all__ = [
    "Figure",
    "Row",
    "adversarial_grid",
    "attack_title",
    "comparison",
    "csv_text",
    "footnotes",
    "human",
    "markdown",
    "read_row",
    "rich_table",
    "threat_text",
    "training_curves",
]
