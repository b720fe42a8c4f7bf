"""The LightningModule of stage `teacher`: a model trained without a teacher, plainly or adversarially."""

from __future__ import annotations

from kdrobust.modules.base import RobustModule


class TeacherModule(RobustModule):
    """Trains the large model. Its methods (`standard`, `pgd_at`, `trades` ...) name no teacher's output."""
