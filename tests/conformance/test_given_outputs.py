"""Given tensors in the place of models."""

import pytest
import torch

from kdrobust.conformance.outputs import GivenOutputs
from kdrobust.errors import DataError

NAMES = ("student_clean", "student_mirror", "teacher_clean", "teacher_natural_clean", "alone")
TENSORS = {name: torch.full((2, 3), float(place)) for place, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("model", "view", "name"),
    [
        ("student", "clean", "student_clean"),
        ("student", "mirror", "student_mirror"),
        ("natural", "clean", "teacher_natural_clean"),  # a further teacher
        ("robust", "clean", "teacher_clean"),  # one the file knows by another name
        ("alone", "adversarial", "alone"),  # one tensor for all views
    ],
)
def test_the_most_particular_name_answers(model, view, name):
    given = GivenOutputs(tensors=TENSORS, truth=None, names={"robust": "teacher"})
    assert given.logits(model, view) is TENSORS[name]
    assert given.features(model, view, "layer3") is TENSORS[name]
    assert given.input_gradient(model, view) is TENSORS[name]


def test_what_a_case_does_not_have():
    given = GivenOutputs(tensors=TENSORS, truth=None)
    with pytest.raises(DataError, match="the case has no input student_adversarial, but the method needs it"):
        given.logits("student", "adversarial")
    with pytest.raises(DataError, match="the case has no labels"):
        _ = given.labels
    with pytest.raises(DataError, match="the case has no attack"):
        _ = given.survived
    assert GivenOutputs(tensors={}, truth=torch.tensor([1])).labels.tolist() == [1]
