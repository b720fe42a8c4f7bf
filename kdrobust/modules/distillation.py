"""The LightningModule of stage `distill`: a student learns from frozen teachers, live or stored."""

from __future__ import annotations

from kdrobust.data.batch import Batch
from kdrobust.modules.base import RobustModule
from kdrobust.views import Views


class DistillationModule(RobustModule):
    """Trains the student, and measures how it follows its teacher.

    Beside the accuracies it logs, where the teacher is at hand:
    `val/agreement`, the share of clean inputs on which student and teacher answer alike, and
    `val/transferability`, the share of the examples that fool the student and fool the teacher too.
    """

    def metric_names(self) -> tuple[str, ...]:
        """The accuracies, agreement and transferability."""
        return (*super().metric_names(), "agreement", "transferability")

    def measure(self, views: Views, batch: Batch) -> None:
        """Update and log the validation metrics of one batch."""
        super().measure(views, batch)
        if "teacher" in self.teachers or "teacher.clean" in batch.outputs:
            student = views.logits("student", "clean").argmax(dim=1)
            self.update("agreement", student == views.logits("teacher", "clean").argmax(dim=1))
        if "teacher" in self.teachers and batch.adversarial is not None:
            fooled = views.logits("student", "adversarial").argmax(dim=1) != batch.labels
            teacher_fooled = views.logits("teacher", "adversarial").argmax(dim=1) != batch.labels
            self.update("transferability", teacher_fooled[fooled])
