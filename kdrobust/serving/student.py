"""A model that takes images as people have them and gives names and probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kdrobust.errors import DataError
from kdrobust.serving.runtime import Floats, Runtime

if TYPE_CHECKING:
    from kdrobust.serving.metadata import Metadata


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Answers to N images.

    Attributes:
        classes: [N] int64, the most probable class of each.
        probabilities: [N, K] float32, softmax of the logits.
        logits: [N, K] float32.
        class_names: K names.
    """

    classes: npt.NDArray[np.int64]
    probabilities: Floats
    logits: Floats
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Each image's class by name."""
        return [self.class_names[label] for label in self.classes]

    @property
    def confidence(self) -> Floats:
        """[N] float32, the probability of the predicted class."""
        return self.probabilities[np.arange(len(self)), self.classes]


class Student:
    """A trained classifier, ready to be asked. `kdrobust.load` makes one.

    Args:
        runtime: the opened model.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def metadata(self) -> Metadata:
        """Input shape, class names, threat model, measured robustness, the checkpoint's hash."""
        return self._runtime.metadata

    @property
    def format(self) -> str:
        """`checkpoint`, `onnx`, `torchscript` or `torch_export`."""
        return self._runtime.format

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.metadata.class_names

    def predict(self, images: Any, *, batch_size: int = 256) -> Prediction:
        """Classify images.

        Args:
            images: a NumPy array or torch tensor, uint8 in 0 .. 255 or floating point in [0, 1], one image or a batch:
                [N, C, H, W], [C, H, W], channels last, or without the channel where there is one only. Images of
                another size are refused: resizing is a choice that moves accuracy and robustness.
            batch_size: images asked about at once; changes memory and speed only.

        Returns:
            One answer an image, also for a single one.

        Raises:
            DataError: another shape, type or range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        pixels = as_batch(images, self.metadata.shape)
        pieces = [self._answer(pixels[start : start + batch_size]) for start in range(0, len(pixels), batch_size)]
        empty = np.zeros((0, self.metadata.classes), dtype=np.float32)
        logits = np.concatenate([empty, *pieces])
        return Prediction(
            classes=logits.argmax(axis=1).astype(np.int64),
            probabilities=softmax(logits),
            logits=logits,
            class_names=self.class_names,
        )

    def _answer(self, pixels: npt.NDArray[Any]) -> Floats:
        return self._runtime.answer(to_unit(pixels))


def softmax(logits: Floats) -> Floats:
    """exp(z) / Σ exp(z) over the last axis, [N, K]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Floats = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def to_unit(pixels: npt.NDArray[Any]) -> Floats:
    """Contiguous float32 in [0, 1]; uint8 counts as 0 .. 255.

    Raises:
        DataError: floating pixels outside [0, 1], or NaN.
    """
    if pixels.dtype == np.uint8:
        # in float32 as at training: k / 255 must round the same way
        return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
    values = np.ascontiguousarray(pixels, dtype=np.float32)
    if np.isnan(values).any():
        raise DataError("images: NaN among the pixels, expected [0, 1]; repair or remove those images")
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if low < 0 or high > 1:
        remedy = "divide by 255 or give uint8" if low >= 0 and high <= 255 else "normalisation is inside the model"
        raise DataError(f"images: pixels from {low:g} to {high:g}, expected [0, 1]; {remedy}")
    return values


def as_batch(images: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Images as [N, *shape], channels first.

    Args:
        images: see `Student.predict`.
        shape: of one input, images as (channels, height, width).

    Raises:
        DataError: another shape, or a type that is neither uint8 nor floating point.
    """
    if hasattr(images, "detach"):
        images = images.detach().cpu().numpy()
    array = np.asarray(images)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"images have dtype {array.dtype}; expected uint8 in 0..255 or floating point in [0, 1]")
    if array.shape[1:] == shape:
        return array
    if array.shape == shape:
        return array[np.newaxis]
    if len(shape) == 3:
        channels, height, width = shape
        if channels == 1 and array.shape[1:] == (height, width):
            return array[:, np.newaxis]
        if channels == 1 and array.shape == (height, width):
            return array[np.newaxis, np.newaxis]
        last = (height, width, channels)
        if array.shape[1:] == last:
            return array.transpose(0, 3, 1, 2)
        if array.shape == last:
            return array.transpose(2, 0, 1)[np.newaxis]
    raise DataError(f"images have shape {array.shape}; the model takes {shape} each; resize them to that")
