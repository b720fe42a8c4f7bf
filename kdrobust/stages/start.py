"""Where a student's training starts: fresh weights, or those of a checkpoint."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from kdrobust.data import DataModule
from kdrobust.models import Classifier, check_spec, read_checkpoint, restore_classifier
from kdrobust.stages.setup import new_classifier, require_file


def new_student(cfg: DictConfig, data: DataModule) -> tuple[Classifier, DictConfig]:
    """The student to be trained, and the model config its checkpoints remember.

    With `student.checkpoint` it is that checkpoint's network with its weights (a pruned one to be fine-tuned, say), and
    `model@student` has no say.

    Args:
        cfg: of stage `distill`.
        data: prepared.

    Raises:
        UsageError: the checkpoint does not exist.
        CheckpointError: it cannot be read, or is a model of other data.
    """
    if cfg.student.get("checkpoint") is None:
        return new_classifier(cfg.student, data.spec, int(cfg.seed)), cfg.student
    path = require_file(cfg.student.checkpoint, "student.checkpoint", "name a best.ckpt to go on from")
    checkpoint = read_checkpoint(path)
    check_spec(checkpoint, data.spec, f"student.checkpoint={path}")
    stored = checkpoint["kdrobust"]["model"]
    node = OmegaConf.create(
        {"network": {**stored["network"], "_partial_": True}, "normalize": bool(stored["normalize"])}
    )
    return restore_classifier(f"student.checkpoint={path}", checkpoint), node
