"""Adapters between a student's features and a teacher's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.losses.adapters import Adapter


def maps(*shape, seed=0):
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("student", "teacher", "size"),
    [
        ((3, 4, 4), (5, 4, 4), (4, 4)),
        ((3, 8, 8), (5, 4, 4), (4, 4)),  # the student's map is the larger one
        ((3, 4, 4), (5, 8, 8), (4, 4)),  # the teacher's is
        ((3, 8, 4), (5, 4, 8), (4, 4)),  # each is, along one side
    ],
)
def test_maps_meet_at_the_smaller_size_with_the_teachers_channels(student, teacher, size):
    own, target = Adapter.between(student, teacher)(maps(*student), maps(*teacher))
    assert own.shape == target.shape == (4, 5, *size)


def test_a_map_is_convolved_normalised_and_cut_off():
    adapter = Adapter((3, 4, 4), (5, 4, 4))
    given = maps(3, 4, 4)
    own, target = adapter(given, maps(5, 4, 4, seed=1))
    convolution, norm, _ = adapter.layers
    mixed = torch.einsum("oc,bchw->bohw", convolution.weight[:, :, 0, 0], given) + convolution.bias.view(1, -1, 1, 1)
    mean, variance = mixed.mean(dim=(0, 2, 3)), mixed.var(dim=(0, 2, 3), unbiased=False)
    expected = ((mixed - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + norm.eps).sqrt()).clamp(min=0)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(target, maps(5, 4, 4, seed=1))


def test_pooling_is_an_average():
    adapter = Adapter((1, 4, 4), (1, 2, 2))
    adapter.layers = nn.Identity()
    given = torch.arange(16.0).view(1, 1, 4, 4)
    own, _ = adapter(given, torch.zeros(1, 1, 2, 2))
    assert own.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_vectors_and_a_map_against_a_vector_pass_a_linear_layer():
    vectors = Adapter((6,), (9,))
    given = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    own, target = vectors(given, torch.zeros(4, 9))
    torch.testing.assert_close(own, F.linear(given, vectors.layers.weight, vectors.layers.bias))
    assert target.shape == (4, 9)
    mixed = Adapter((3, 4, 4), (9,))
    own, _ = mixed(maps(3, 4, 4), torch.zeros(4, 9))
    torch.testing.assert_close(own, mixed.layers(maps(3, 4, 4).mean(dim=(2, 3))))


def test_it_learns_with_the_student_and_leaves_the_teacher_alone():
    adapter = Adapter((3, 4, 4), (5, 2, 2))
    student, teacher = maps(3, 4, 4).requires_grad_(True), maps(5, 2, 2)
    own, target = adapter(student, teacher)
    (own - target).square().mean().backward()
    assert float(student.grad.abs().sum()) > 0
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in adapter.layers[1:].parameters())
    assert adapter.layers[0].weight.grad is not None


@pytest.mark.parametrize(("student", "teacher"), [((6,), (3, 4, 4)), ((3, 4), (3, 4)), ((2, 3, 4, 4), (2, 3, 4, 4))])
def test_shapes_nothing_leads_between(student, teacher):
    with pytest.raises(ValueError, match="no adapter leads from") as error:
        Adapter.between(student, teacher)
    assert str(list(student)) in str(error.value)
    assert str(list(teacher)) in str(error.value)
    assert "\n" not in str(error.value)
