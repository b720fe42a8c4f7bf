"""Given tensors in the place of models: what an objective reads when a vector file answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kdrobust.errors import DataError


@dataclass(frozen=True, kw_only=True)
class GivenOutputs:
    """A `ViewSource` over a case's inputs.

    Attributes:
        tensors: the case's inputs by name: `student_adversarial`, `teacher_clean`, `teacher_natural_clean`, or plain
            `student` and `teacher`.
        truth: labels, or None.
        names: what the file calls one of our models, where it differs.
    """

    tensors: Mapping[str, Tensor]
    truth: Tensor | None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> Tensor:
        """True classes, [B]."""
        if self.truth is None:
            raise DataError("the case has no labels, but the method needs them")
        return self.truth

    @property
    def survived(self) -> Tensor:
        """Vector files do not attack."""
        raise DataError("the case has no attack, but the method counts its steps")

    def logits(self, model: str, view: str) -> Tensor:
        """The input of a model's name and a view's, or of the model's name alone."""
        theirs = self.names.get(model, model)
        for name in (f"{theirs}_{view}", f"teacher_{theirs}_{view}", theirs):
            if name in self.tensors:
                return self.tensors[name]
        raise DataError(f"the case has no input {theirs}_{view}, but the method needs it")

    def features(self, model: str, view: str, path: str) -> Tensor:
        """The input of a model's name, whatever module it came from."""
        return self.logits(model, view)

    def input_gradient(self, model: str, view: str) -> Tensor:
        """The input of a model's name."""
        return self.logits(model, view)
