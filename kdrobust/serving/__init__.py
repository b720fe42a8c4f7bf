"""Models that answer: read from a checkpoint or an exported file, asked about arrays or about files of images."""

from kdrobust.serving.metadata import Metadata
from kdrobust.serving.runtime import Runtime, open_runtime
from kdrobust.serving.student import Prediction, Student

__all__ = ["Metadata", "Prediction", "Runtime", "Student", "open_runtime"]
