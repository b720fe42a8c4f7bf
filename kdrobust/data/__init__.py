"""Data: sources, splits, batches and batched augmentation."""

from kdrobust.data.arrays import Arrays, FilePixels, Source
from kdrobust.data.augmentation import Augment, Augmentation, cutout, horizontal_flip, random_crop
from kdrobust.data.batch import Batch
from kdrobust.data.digits import Digits
from kdrobust.data.espeak import EspeakDigits
from kdrobust.data.fsdd import FreeSpokenDigits
from kdrobust.data.image_folder import ImageFolder
from kdrobust.data.module import DataModule
from kdrobust.data.npz import Npz
from kdrobust.data.splits import Split, to_unit
from kdrobust.data.spoken_words import Recordings, SpokenWords
from kdrobust.data.torchvision_images import TorchvisionImages

__all__ = [
    "Arrays",
    "Augment",
    "Augmentation",
    "Batch",
    "DataModule",
    "Digits",
    "EspeakDigits",
    "FilePixels",
    "FreeSpokenDigits",
    "ImageFolder",
    "Npz",
    "Recordings",
    "Source",
    "Split",
    "SpokenWords",
    "TorchvisionImages",
    "cutout",
    "horizontal_flip",
    "random_crop",
    "to_unit",
]
