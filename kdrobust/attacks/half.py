"""Half precision: attacks compute in single precision, and the model sees points that it can be shown.

A step of 2/255 is less than the distance between two neighbouring bfloat16 numbers near 1, and a point of the ball that
is rounded to one of them may lie outside. So x, x', the perturbation and the random numbers of an attack are float32
(float64 where the inputs are), and only the model, as `HalfModel`, is asked about their neighbours in half precision
that lie in ball and box. The answer is such a neighbour too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdrobust.attacks.contract import Model
from kdrobust.attacks.threat import Threat


class _Shown(torch.autograd.Function):
    """What a model is shown in place of a point; the gradient passes straight through."""

    @staticmethod
    def forward(context: Any, points: Tensor, shown: Tensor) -> Tensor:
        context.dtype = points.dtype
        return shown

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.to(context.dtype), None


class HalfModel:
    """A model that takes half precision, as an attack asks it about points in single precision.

    Args:
        model: inputs in half precision to logits.
        inputs: clean x in half precision, [B, ...].
        threat: ball and box.
        radius: ε, or one a sample as [B, 1, 1, ...].
    """

    def __init__(self, model: Model, inputs: Tensor, threat: Threat, radius: float | Tensor) -> None:
        self.model = model
        self.inputs = inputs
        self.threat = threat
        self.radius = radius

    def __call__(self, points: Tensor) -> Tensor:
        """Logits [B, K], in the model's own type, of points [B, ...] around the same clean x."""
        return self.model(_Shown.apply(points, self.shown(points)))  # type: ignore[no-untyped-call]

    def shown(self, points: Tensor) -> Tensor:
        """What the model sees of points, [B, ...] in half precision; see `Threat.narrow`."""
        return self.threat.narrow(points.detach(), self.inputs, self.radius)

    def rows(self, rows: Tensor) -> HalfModel:
        """The same for some samples."""
        radius = self.radius[rows] if isinstance(self.radius, Tensor) else self.radius
        return HalfModel(self.model, self.inputs[rows], self.threat, radius)


def asked(model: Model, inputs: Tensor, threat: Threat, radius: float | Tensor) -> Model:
    """A model as an attack asks it: itself, or in half precision as `HalfModel`.

    Args:
        model: inputs to logits.
        inputs: clean x as the caller gave them, [B, ...].
        threat: ball and box.
        radius: ε, or one a sample as [B, 1, 1, ...].
    """
    return HalfModel(model, inputs, threat, radius) if inputs.dtype.itemsize < 4 else model


def of_rows(model: Model, rows: Tensor) -> Model:
    """A model to be asked about some of the samples it was asked about."""
    return model.rows(rows) if isinstance(model, HalfModel) else model


def answer(model: Model, points: Tensor) -> Tensor:
    """What an attack gives back: points as the model saw them, in the inputs' own type, [B, ...]."""
    return model.shown(points) if isinstance(model, HalfModel) else points
