"""Transforms: the same samples in another domain or modality, for data sets and for what a teacher is shown."""

from kdrobust.transforms.corrupt import Corrupt
from kdrobust.transforms.resize import Resize
from kdrobust.transforms.spectrogram import Spectrogram

__all__ = ["Corrupt", "Resize", "Spectrogram"]
