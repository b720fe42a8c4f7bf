"""Adapters: a student's features in the shape of the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdrobust.losses.features import match_size


class Adapter(nn.Module):
    """Maps through a 1×1 convolution, batch norm and ReLU; vectors through a linear layer.

    Maps of different size are brought to the smaller one's, whichever side that is, by average pooling; a student's map
    against a teacher's vector is averaged over its positions. Its parameters are trained with the student.

    Args:
        student: shape of one sample's features, (C, H, W) or (D,).
        teacher: the same of the teacher.

    Raises:
        ValueError: a teacher's map against a student's vector, or other shapes; names both.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        super().__init__()
        shapes = (len(student), len(teacher))
        if shapes == (3, 3):
            self.layers: nn.Module = nn.Sequential(
                nn.Conv2d(student[0], teacher[0], kernel_size=1), nn.BatchNorm2d(teacher[0]), nn.ReLU()
            )
        elif shapes in ((1, 1), (3, 1)):
            self.layers = nn.Linear(student[0], teacher[0])
        else:
            raise ValueError(
                f"no adapter leads from student features {list(student)} to teacher features {list(teacher)}; "
                "tap maps on both sides, or vectors on both"
            )

    @classmethod
    def between(cls, student: Sequence[int], teacher: Sequence[int]) -> Adapter:
        """An adapter for features of these shapes (a sample's, without the batch)."""
        return cls(student, teacher)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides in one shape.

        Args:
            student: features, [B, C, H, W] or [B, D].
            teacher: features, [B, C', H', W'] or [B, D'].
        """
        if student.dim() == 4 and teacher.dim() == 4:
            own, target = match_size(student, teacher)
            return self.layers(own), target
        if student.dim() == 4:
            student = student.mean(dim=(2, 3))
        return self.layers(student), teacher
