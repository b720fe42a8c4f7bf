"""Views: every model's outputs on every version of a batch, each computed once, when first asked for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdrobust.data.batch import Batch


class Views:
    """The outputs a loss may read. A method that never names teacher-on-adversarial never pays for it.

    Args:
        student: the model being trained; its outputs carry a graph.
        teachers: name to frozen model; their outputs carry none.
        batch: the batch; teacher logits it already holds are used as they are, and new ones are left there for whoever
            asks next (the attack and the objective share one teacher forward).
    """

    def __init__(self, student: nn.Module, teachers: Mapping[str, nn.Module], batch: Batch) -> None:
        self.student = student
        self.teachers = teachers
        self.batch = batch
        self._computed: dict[str, Tensor] = {}

    @property
    def labels(self) -> Tensor:
        """True classes, [B] int64."""
        return self.batch.labels

    def inputs(self, view: str) -> Tensor:
        """The inputs of a view: `clean` x, `adversarial` x', or `mirror` 2x - x', each [B, *shape].

        Raises:
            ValueError: no attack has run on this batch, or an unknown view.
        """
        if view == "clean":
            return self.batch.inputs
        if self.batch.adversarial is None:
            raise ValueError(f"view {view!r} asked for, but no attack has crafted this batch's adversarial inputs")
        if view == "adversarial":
            return self.batch.adversarial
        if view == "mirror":
            return 2.0 * self.batch.inputs - self.batch.adversarial
        raise ValueError(f"unknown view {view!r}; there are clean, adversarial and mirror")

    def computed(self, model: str, view: str) -> Tensor | None:
        """Detached logits that somebody has asked for already, or None."""
        logits = self._computed.get(view) if model == "student" else self.batch.outputs.get(f"{model}.{view}")
        return None if logits is None else logits.detach()

    def logits(self, model: str, view: str) -> Tensor:
        """Logits of `student` or of a teacher on a view, [B, K].

        Raises:
            ValueError: a teacher nobody loaded, or a view that is not there.
        """
        if model == "student":
            if view not in self._computed:
                self._computed[view] = self.student(self.inputs(view))
            return self._computed[view]
        key = f"{model}.{view}"
        if key not in self.batch.outputs:
            if model not in self.teachers:
                raise ValueError(f"{key} asked for, but no teacher of that name is loaded or stored")
            with torch.no_grad():
                self.batch.outputs[key] = self.teachers[model](self.inputs(view))
        return self.batch.outputs[key]
