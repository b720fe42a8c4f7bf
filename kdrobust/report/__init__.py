"""Reports: plots of a run, and the comparison of models as table and picture."""

from kdrobust.report.classes import class_bars
from kdrobust.report.corruption_bars import corruption_bars
from kdrobust.report.costs import cost_markdown, cost_notes, cost_table
from kdrobust.report.detection import detection_csv, detection_markdown, detection_plot
from kdrobust.report.evaluation import curves_of, evaluation_figures
from kdrobust.report.gallery import gallery
from kdrobust.report.paired import paired_line, paired_markdown
from kdrobust.report.plots import adversarial_grid, comparison, training_curves
from kdrobust.report.reliability import reliability_diagram
from kdrobust.report.rows import Figure, Row, attack_title, read_row, threat_text
from kdrobust.report.security import security_plot
from kdrobust.report.sound import spectrograms, write_wav
from kdrobust.report.surface import loss_surface_plot
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
    "class_bars",
    "comparison",
    "comparison_csv",
    "comparison_markdown",
    "comparison_table",
    "corruption_bars",
    "cost_markdown",
    "cost_notes",
    "cost_table",
    "curves_of",
    "detection_csv",
    "detection_markdown",
    "detection_plot",
    "evaluation_figures",
    "footnotes",
    "gallery",
    "human",
    "loss_surface_plot",
    "paired_line",
    "paired_markdown",
    "print_table",
    "read_row",
    "reliability_diagram",
    "security_plot",
    "spectrograms",
    "threat_text",
    "training_curves",
    "write_wav",
]
