"""What a loss reads: which model's logits, features or input gradient, on which view of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from kdrobust.losses.lookup import unknown

#: Views of an input: as it is, attacked (x'), and on the other side of x (x - δ where x' = x + δ).
VIEWS = ("clean", "adversarial", "mirror")
LOGITS, FEATURES, INPUT_GRADIENT = "logits", "features", "input_gradient"


class ViewReference(NamedTuple):
    """One model's output on one view of the batch.

    Attributes:
        model: `student`, or the name of a teacher or partner.
        view: one of `VIEWS`.
        kind: its `logits`, the `features` of one of its modules, or its `input_gradient`.
        path: the module, for features.
        detached: whether the gradient stops here.
    """

    model: str
    view: str
    kind: str = LOGITS
    path: str = ""
    detached: bool = False

    def __str__(self) -> str:
        return f"{self.model}.{self.view}" + (f":{self.path}" if self.path else "")


class ViewSource(Protocol):
    """What an objective reads from: see `kdrobust.views.Views`."""

    @property
    def labels(self) -> Tensor:
        """True classes, [B]."""

    @property
    def survived(self) -> Tensor:
        """Steps of the inner attack that each sample withstood, [B]."""

    def logits(self, model: str, view: str) -> Tensor:
        """Logits of a model on a view, [B, K]."""

    def features(self, model: str, view: str, path: str) -> Tensor:
        """Output of one of a model's modules on a view, [B, ...]."""

    def input_gradient(self, model: str, view: str) -> Tensor:
        """Gradient of a model's cross-entropy to a view's pixels, [B, *shape]."""


def read(views: ViewSource, reference: ViewReference) -> Tensor:
    """The tensor a reference names."""
    if reference.kind == FEATURES:
        value = views.features(reference.model, reference.view, reference.path)
    elif reference.kind == INPUT_GRADIENT:
        value = views.input_gradient(reference.model, reference.view)
    else:
        value = views.logits(reference.model, reference.view)
    return value.detach() if reference.detached else value


def _own(parameter: str) -> str:
    # `student_mirror` asks the student as `student` does
    return parameter.partition("_")[0]


def _view(text: str, key: str, known: Sequence[str] = VIEWS) -> str:
    if text not in known:
        raise ValueError(f"{key}: {unknown('view', text, known)}")
    return text


def read_view(parameter: str, value: object, key: str, *, kind: str = LOGITS, detached: bool = False) -> ViewReference:
    """`clean` for the parameter's own model, or `model.view` for another's.

    Raises:
        ValueError: no such view; one line with the key.
    """
    model, _, view = str(value).rpartition(".")
    return ViewReference(model or _own(parameter), _view(view, key), kind, detached=detached)


def read_tap(parameter: str, value: object, key: str, *, view: object, detached: bool = False) -> ViewReference:
    """`layer3` for a module of the parameter's own model, or `model:layer3` for one of another's.

    Args:
        parameter: the loss's parameter.
        value: what the YAML says.
        key: where it says so.
        view: the view of the input, the term's key `view`.
        detached: whether the gradient stops here.

    Raises:
        ValueError: no path, or no such view; one line with the key.
    """
    model, _, path = str(value).rpartition(":")
    if not path or path == "None":
        raise ValueError(f"{key}: expected the path of a module such as network.layer3, got {value!r}")
    return ViewReference(model or _own(parameter), _view(str(view), key), FEATURES, path, detached)
