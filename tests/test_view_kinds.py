"""Views beyond plain logits: features, input gradients, partners; one forward a view."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.data import Batch
from kdrobust.views import Views

TAPS = {("student", "clean"): ("0", "1"), ("teacher", "clean"): ("1",), ("teacher", "adversarial"): ("1",)}


class Counted(nn.Sequential):
    def __init__(self, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs)


@pytest.fixture
def parts():
    student, teacher, peer = Counted(1), Counted(2).requires_grad_(False), Counted(3)
    inputs = torch.rand(4, 3, generator=torch.Generator().manual_seed(4))
    batch = Batch(inputs=inputs, labels=torch.tensor([0, 1, 1, 0]), indices=torch.arange(4))
    batch.adversarial = inputs + 0.1
    return student, teacher, peer, batch


def make(parts, taps=TAPS):
    student, teacher, peer, batch = parts
    return Views(student, {"teacher": teacher}, batch, partners={"peer": peer}, taps=taps)


def test_features_and_logits_come_from_one_forward(parts):
    student, teacher, _, batch = parts
    views = make(parts)
    first, second = views.features("student", "clean", "0"), views.features("student", "clean", "1")
    logits = views.logits("student", "clean")
    assert student.calls == 1
    torch.testing.assert_close(first, student[0](batch.inputs))
    torch.testing.assert_close(second, first.tanh())
    torch.testing.assert_close(logits, student[2](second))
    assert second.requires_grad
    theirs = views.features("teacher", "clean", "1")
    views.logits("teacher", "clean")
    make(parts).features("teacher", "clean", "1")  # the attack's views and the objective's share the batch
    assert teacher.calls == 1
    assert not theirs.requires_grad


def test_a_tap_nobody_announced(parts):
    with pytest.raises(ValueError, match=r"student\.adversarial:0 asked for, but it is not among the announced taps"):
        make(parts).features("student", "adversarial", "0")


def test_stored_logits_come_without_features_so_the_teacher_answers_once_more(parts):
    _, teacher, _, batch = parts
    batch.outputs["teacher.clean"] = torch.zeros(4, 2)
    views = make(parts)
    assert views.features("teacher", "clean", "1").shape == (4, 4)
    assert teacher.calls == 1
    torch.testing.assert_close(batch.outputs["teacher.clean"], teacher(batch.inputs))


def test_a_partner_answers_with_a_graph_and_keeps_nothing_in_the_batch(parts):
    _, _, peer, batch = parts
    views = make(parts)
    answer = views.logits("peer", "adversarial")
    assert views.logits("peer", "adversarial") is answer
    assert peer.calls == 1
    answer.sum().backward()
    assert peer[0].weight.grad is not None
    assert not any(key.startswith("peer") for key in batch.outputs)
    make(parts).logits("peer", "adversarial")
    assert peer.calls == 2
    assert views.computed("peer", "adversarial") is not None
    assert views.computed("peer", "clean") is None


def test_the_mirror_of_a_model_is_its_answer_on_the_other_side(parts):
    student, teacher, _, batch = parts
    views = make(parts)
    torch.testing.assert_close(views.logits("student", "mirror"), student(batch.inputs - 0.1))
    torch.testing.assert_close(views.logits("teacher", "mirror"), teacher(batch.inputs - 0.1))


def test_an_input_gradient_by_finite_differences(parts):
    student, _, _, batch = parts
    student.double()
    batch.inputs = batch.inputs.double()
    gradient = make(parts).input_gradient("student", "clean")
    step = 1e-6
    for place in range(3):
        moved = torch.zeros(3, dtype=torch.float64)
        moved[place] = step
        ends = [
            F.cross_entropy(student(batch.inputs + sign * moved), batch.labels, reduction="none") for sign in (-1, 1)
        ]
        torch.testing.assert_close(gradient[:, place], (ends[1] - ends[0]) / (2 * step), rtol=1e-5, atol=1e-7)


def test_an_input_gradient_is_kept_with_its_logits(parts):
    student, teacher, _, _ = parts
    views = make(parts, taps={})
    first = views.input_gradient("student", "clean")
    assert views.input_gradient("student", "clean") is first
    views.logits("student", "clean")
    assert student.calls == 1
    first.square().sum().backward()
    assert student[0].weight.grad is not None
    theirs = views.input_gradient("teacher", "adversarial")
    assert not theirs.requires_grad
    make(parts, taps={}).input_gradient("teacher", "adversarial")
    assert teacher.calls == 1
    with torch.no_grad():
        assert not make(parts).input_gradient("student", "clean").requires_grad
    with pytest.raises(ValueError, match="no teacher of that name"):
        views.input_gradient("natural", "clean")


def test_survived_steps_have_to_be_counted(parts):
    views = make(parts)
    with pytest.raises(ValueError, match="none has run on this batch"):
        _ = views.survived
    parts[3].survived = torch.ones(4)
    assert views.survived.tolist() == [1.0] * 4
    assert views.labels is parts[3].labels
