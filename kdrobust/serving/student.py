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


_UNIT = (0.0, 1.0)


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
                another size are refused: resizing is a choice that moves accuracy and robustness. For a model of
                sound: floating-point signals in [-1, 1], [N, 1, T], [N, T], [1, T] or [T].
            batch_size: images asked about at once; changes memory and speed only.

        Returns:
            One answer an image, also for a single one.

        Raises:
            DataError: another shape, type or range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        pixels = as_batch(images, self.metadata.shape, self.metadata.value_range)
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
        return self._runtime.answer(to_range(pixels, self.metadata.value_range))


def softmax(logits: Floats) -> Floats:
    """exp(z) / Σ exp(z) over the last axis, [N, K]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Floats = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def to_range(pixels: npt.NDArray[Any], bounds: tuple[float, float] = _UNIT) -> Floats:
    """Contiguous float32 within bounds; uint8 counts as 0 .. 255.

    Raises:
        DataError: floating values outside the bounds, or NaN.
    """
    if pixels.dtype == np.uint8:
        # in float32 as at training: k / 255 must round the same way
        return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
    values = np.ascontiguousarray(pixels, dtype=np.float32)
    what, inner = ("images", "pixels") if bounds == _UNIT else ("inputs", "values")
    expected = f"expected [{bounds[0]:g}, {bounds[1]:g}]"
    if np.isnan(values).any():
        raise DataError(f"{what}: NaN among the {inner}, {expected}; repair or remove those {what}")
    low, high = float(values.min(initial=bounds[0])), float(values.max(initial=bounds[0]))
    if low < bounds[0] or high > bounds[1]:
        remedy = "normalisation is inside the model"
        if bounds == _UNIT and low >= 0 and high <= 255:
            remedy = "divide by 255 or give uint8"
        raise DataError(f"{what}: {inner} from {low:g} to {high:g}, {expected}; {remedy}")
    return values


def as_batch(images: Any, shape: tuple[int, ...], bounds: tuple[float, float] = _UNIT) -> npt.NDArray[Any]:
    """Images as [N, *shape], channels first.

    Args:
        images: see `Student.predict`.
        shape: of one input, images as (channels, height, width).
        bounds: the range of valid values; uint8 is taken where it is [0, 1].

    Raises:
        DataError: another shape, or a type that is neither uint8 nor floating point.
    """
    if hasattr(images, "detach"):
        images = images.detach().cpu().numpy()
    array = np.asarray(images)
    what = "images" if bounds == _UNIT else "inputs"
    if not np.issubdtype(array.dtype, np.floating) and (array.dtype != np.uint8 or bounds != _UNIT):
        expected = f"{'uint8 in 0..255 or ' * (bounds == _UNIT)}floating point in [{bounds[0]:g}, {bounds[1]:g}]"
        raise DataError(f"{what} have dtype {array.dtype}; expected {expected}")
    batch = array[np.newaxis] if is_single(array.shape, shape) else array
    inner = batch.shape[1:]
    if inner == shape:
        return batch
    if shape[0] == 1 and inner == shape[1:]:
        return batch[:, np.newaxis]
    if len(shape) == 3 and inner == (*shape[1:], shape[0]):
        return batch.transpose(0, 3, 1, 2)
    remedy = "resize" if len(shape) == 3 else "bring"
    raise DataError(f"{what} have shape {array.shape}; the model takes {shape} each; {remedy} them to that")


def is_single(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of shape `found` is one input, and no batch of inputs of `shape`."""
    forms = [shape]
    if shape[0] == 1 and len(shape) > 1:
        forms.append(shape[1:])
    if len(shape) == 3:
        forms.append((*shape[1:], shape[0]))
    return found in forms and found[1:] not in forms
