"""Detecting adversarial examples: data to learn it from, figures, thresholds, and a stream of inputs to be judged."""

from kdrobust.detection.calibration import Calibration, read_calibration, scores_of, write_calibration
from kdrobust.detection.crafting import Crafted, craft
from kdrobust.detection.measuring import Group, adaptive_checks, alarm_row, group_row, overlap
from kdrobust.detection.pairs import Pairs
from kdrobust.detection.roc import auroc, auroc_difference, average_precision, threshold_at

__all__ = [
    "Calibration",
    "Crafted",
    "Group",
    "Pairs",
    "adaptive_checks",
    "alarm_row",
    "auroc",
    "auroc_difference",
    "average_precision",
    "craft",
    "group_row",
    "overlap",
    "read_calibration",
    "scores_of",
    "threshold_at",
    "write_calibration",
]
