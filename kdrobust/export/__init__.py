"""Export: a checkpoint as a file that runs without this package, with its metadata, checks and card."""

from kdrobust.export.agreement import TOLERANCE, Agreement, Difference, agreement
from kdrobust.export.card import model_card
from kdrobust.export.exported import Exported, StraightThrough
from kdrobust.export.quantize import QUANTIZATIONS, quantize_onnx
from kdrobust.export.write import SUFFIXES, stamp, write_model

__all__ = [
    "QUANTIZATIONS",
    "SUFFIXES",
    "TOLERANCE",
    "Agreement",
    "Difference",
    "Exported",
    "StraightThrough",
    "agreement",
    "model_card",
    "quantize_onnx",
    "stamp",
    "write_model",
]
