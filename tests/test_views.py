import pytest
import torch
from torch import nn

from kdrobust.attacks.kernels import climbed
from kdrobust.data.batch import Batch
from kdrobust.views import Views


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs)


@pytest.fixture
def parts():
    student, teacher = Counting(), Counting()
    batch = Batch(inputs=torch.rand(4, 3), labels=torch.zeros(4, dtype=torch.long), indices=torch.arange(4))
    return student, teacher, batch


def test_each_output_is_computed_once_and_only_when_asked_for(parts):
    student, teacher, batch = parts
    views = Views(student, {"teacher": teacher}, batch)
    assert student.calls == teacher.calls == 0
    first = views.logits("student", "clean")
    assert views.logits("student", "clean") is first
    views.logits("teacher", "clean")
    views.logits("teacher", "clean")
    assert (student.calls, teacher.calls) == (1, 1)
    assert first.requires_grad
    assert not views.logits("teacher", "clean").requires_grad


def test_the_attack_and_the_objective_share_one_teacher_forward(parts):
    student, teacher, batch = parts
    Views(student, {"teacher": teacher}, batch).logits("teacher", "clean")
    Views(student, {"teacher": teacher}, batch).logits("teacher", "clean")
    assert teacher.calls == 1


def test_stored_outputs_replace_a_teacher(parts):
    student, _, batch = parts
    batch.outputs["teacher.clean"] = torch.ones(4, 2)
    views = Views(student, {}, batch)
    assert torch.equal(views.logits("teacher", "clean"), torch.ones(4, 2))
    batch.adversarial = batch.inputs + 0.1
    with pytest.raises(ValueError, match="no teacher of that name"):
        views.logits("teacher", "adversarial")


def test_the_mirror_lies_on_the_other_side(parts):
    student, _, batch = parts
    with pytest.raises(ValueError, match="no attack"):
        Views(student, {}, batch).inputs("adversarial")
    batch.adversarial = batch.inputs + 0.1
    views = Views(student, {}, batch)
    torch.testing.assert_close(views.inputs("mirror"), batch.inputs - 0.1)
    assert views.computed("student", "clean") is None
    views.logits("student", "clean")
    assert not views.computed("student", "clean").requires_grad
    with pytest.raises(ValueError, match="unknown view"):
        views.inputs("sideways")


def test_a_batch_moves_whole(parts):
    _, _, batch = parts
    batch.outputs["teacher.clean"] = torch.ones(4, 2)
    moved = batch.to("meta")
    assert {moved.inputs.device.type, moved.labels.device.type, moved.outputs["teacher.clean"].device.type} == {"meta"}
    assert moved.adversarial is None
    assert len(batch) == 4


def test_a_frozen_teacher_answers_in_the_form_asked_for_and_nobody_else_does():
    torch.manual_seed(0)
    student, teacher = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        for _ in range(2)
    )
    teacher.eval().requires_grad_(False)
    inputs = torch.rand(5, 1, 8, 8)

    def views(precision, **options):
        batch = Batch(inputs=inputs, labels=torch.zeros(5, dtype=torch.long), indices=torch.arange(5))
        return Views(student, {"teacher": teacher}, batch, teacher_precision=precision, **options)

    exact = teacher(inputs)
    half = views("bf16").logits("teacher", "clean")
    assert torch.equal(half, climbed(teacher, "bf16", inputs)(inputs))
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.02)
    # of so small a network `auto` changes no bit
    assert torch.equal(views("auto").logits("teacher", "clean"), exact)
    asked = views("bf16")
    assert torch.equal(asked.logits("student", "clean"), student(inputs))
    assert asked.logits("student", "clean").requires_grad
    tapped = views("bf16", taps={("teacher", "clean"): ("2",)})
    assert torch.equal(tapped.logits("teacher", "clean"), exact)
    assert tapped.features("teacher", "clean", "2").shape == (5, 4, 6, 6)
    teacher.train()
    assert not torch.equal(views("bf16").logits("teacher", "clean"), half), "in train mode it is another function"
