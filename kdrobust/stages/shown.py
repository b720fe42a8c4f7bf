"""What a teacher is shown of a student's inputs: the same, or the same items in its own domain or modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from kdrobust.config import instantiate
from kdrobust.config.kinds import TRANSFORM
from kdrobust.data.transformed import build_transform
from kdrobust.errors import UsageError
from kdrobust.models import Classifier, check_class_names, fit, read_checkpoint, restore_classifier, stored_spec
from kdrobust.spec import InputSpec

_REMEDY = (
    "data=... must name what it was trained on, or transform@teacher.transform=... what turns the data's inputs into "
    "the teacher's"
)


def shown_spec(spec: InputSpec, transform: Any, key: str = "teacher") -> InputSpec:
    """What a teacher is given where the student is given a spec.

    Args:
        spec: of the student's inputs.
        transform: the config's node, or None.
        key: whose it is, for errors.
    """
    return spec if transform is None else _built(spec, transform, key)[1]


def _built(spec: InputSpec, transform: Any, key: str) -> tuple[nn.Module, InputSpec]:
    module: Any = build_transform(instantiate(transform, TRANSFORM), spec, f"{key}.transform")
    if getattr(module, "draws", False):
        # a frozen teacher has one answer to an input
        raise UsageError(f"{key}.transform: {module.name} draws noise, which belongs to the data: data.transform")
    return module, module.spec


def check_teacher(own: InputSpec, spec: InputSpec, transform: Any, what: str, key: str = "teacher") -> None:
    """Refuse a teacher that cannot teach these data: other classes, or inputs of another form.

    Args:
        own: of the data it was trained on.
        spec: of the student's data.
        transform: the config's node of what lies between, or None.
        what: begins the refusal: where the config names the teacher, or the data it is trained on.
        key: whose it is, for errors.

    Raises:
        CheckpointError: inputs of another form, another number of classes, or as many of other names.
    """
    fit(own, shown_spec(spec, transform, key), what, remedy=_REMEDY)
    remedy = "teacher and student need the same classes in the same order"
    check_class_names(own, spec, what, remedy=remedy)


def restore_teacher(
    path: Path,
    spec: InputSpec,
    transform: DictConfig | Mapping[str, Any] | None,
    key: str = "teacher",
    checkpoint: Mapping[str, Any] | None = None,
) -> Classifier:
    """A teacher from its checkpoint, as it answers to the student's inputs: a transform is its first layer.

    Args:
        path: the file.
        spec: of the student's data.
        transform: what the teacher is shown of an input; none where both see the same.
        key: whose it is, for errors.
        checkpoint: what `kdrobust.models.read_checkpoint` has read there already; read here without.

    Raises: as `check_teacher`, and what `kdrobust.models.restore_classifier` raises.
    """
    if checkpoint is None:
        checkpoint = read_checkpoint(path)
    check_teacher(stored_spec(checkpoint), spec, transform, f"{key}.checkpoint={path}", key)
    model = restore_classifier(path, checkpoint)
    if transform is not None:
        model.normalize = nn.Sequential(_built(spec, transform, key)[0], model.normalize)
    return model
