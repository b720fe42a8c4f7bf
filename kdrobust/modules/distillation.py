"""The LightningModule of stage `distill`: a student learns from frozen teachers, live or stored."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrobust.data.batch import Batch
from kdrobust.losses import soft_target
from kdrobust.modules.base import RobustModule
from kdrobust.views import Views


class DistillationModule(RobustModule):
    """Trains the student, and measures how it follows its teacher.

    Beside the accuracies it logs, where the teacher (the first one a term names) is at hand, over the validation set:

    - `val/agreement`, the share of clean inputs on which student and teacher answer alike;
    - `val/kl_to_teacher`, the mean KL(T(x) ‖ S(x)) at temperature 1, in nats;
    - `val/adversarial_agreement` and `val/adversarial_kl_to_teacher`, the same on the student's adversarial examples,
      KL(T(x') ‖ S(x'));
    - `val/robust_agreement`, the share of samples whose adversarial example the student answers as the teacher answers
      the clean input: S(x') as T(x), what `val/robust_accuracy` is with the teacher in the labels' place;
    - `val/transferability`, the share of the examples that fool the student and fool the teacher too; 0 where none
      fools the student.
    """

    def metric_names(self) -> tuple[str, ...]:
        """The accuracies, and what compares student and teacher."""
        compared = ("agreement", "kl_to_teacher", "adversarial_agreement", "adversarial_kl_to_teacher")
        labelled = ("transferability",) if self.labelled else ()
        return (*super().metric_names(), *compared, "robust_agreement", *labelled)

    def measure(self, views: Views, batch: Batch) -> None:
        """Update and log the validation metrics of one batch."""
        super().measure(views, batch)
        name = self.objective.main_teacher
        live = name in self.teachers or name in self.partners
        if live or f"{name}.clean" in batch.outputs:
            told = views.logits(name, "clean")
            self._compare("", views.logits("student", "clean"), told)
            if batch.adversarial is not None:
                kept = views.logits("student", "adversarial").argmax(dim=1) == told.argmax(dim=1)
                self.update("robust_agreement", kept)
        if live and batch.adversarial is not None:
            student, teacher = views.logits("student", "adversarial"), views.logits(name, "adversarial")
            self._compare("adversarial_", student, teacher)
            if not self.labelled:
                return
            fooled = student.argmax(dim=1) != batch.labels
            self.update("transferability", (teacher.argmax(dim=1) != batch.labels)[fooled])

    @torch.no_grad()
    def _compare(self, prefix: str, student: Tensor, teacher: Tensor) -> None:
        self.update(f"{prefix}agreement", student.argmax(dim=1) == teacher.argmax(dim=1))
        self.update(f"{prefix}kl_to_teacher", soft_target(student, teacher))
