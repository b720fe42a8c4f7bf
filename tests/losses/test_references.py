"""What a term reads, from what the YAML says."""

import pytest
import torch

from kdrobust.losses.references import FEATURES, INPUT_GRADIENT, ViewReference, read, read_tap, read_view


class Source:
    def __init__(self):
        self.value = torch.ones(2, requires_grad=True)
        self.asked = []

    def _answer(self, *where):
        self.asked.append(where)
        return self.value * 1.0

    def logits(self, model, view):
        return self._answer("logits", model, view)

    def features(self, model, view, path):
        return self._answer("features", model, view, path)

    def input_gradient(self, model, view):
        return self._answer("input_gradient", model, view)


@pytest.mark.parametrize(
    ("parameter", "value", "model", "view"),
    [
        ("student", "clean", "student", "clean"),
        ("teacher", "adversarial", "teacher", "adversarial"),
        ("student_mirror", "mirror", "student", "mirror"),
        ("teacher_mirror", "robust.mirror", "robust", "mirror"),
        ("teacher", "student.clean", "student", "clean"),
    ],
)
def test_views(parameter, value, model, view):
    reference = read_view(parameter, value, "key")
    assert (reference.model, reference.view, reference.kind) == (model, view, "logits")
    assert str(reference) == f"{model}.{view}"


def test_taps():
    assert read_tap("student", "layer3", "key", view="clean") == ViewReference("student", "clean", FEATURES, "layer3")
    other = read_tap("teacher", "natural:network.layer3", "key", view="adversarial")
    assert str(other) == "natural.adversarial:network.layer3"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda: read_view("student", "cleen", "method.terms.a.student"),
            r"method\.terms\.a\.student: no view 'cleen'",
        ),
        (lambda: read_view("student", "student.x.clear", "key"), "key: no view 'clear'; did you mean clean"),
        (lambda: read_tap("student", None, "key", view="clean"), "key: expected the path of a module"),
        (lambda: read_tap("student", "natural:", "key", view="clean"), "key: expected the path"),
        (lambda: read_tap("student", "layer", "key", view="side"), "key: no view 'side'"),
    ],
)
def test_mistakes(function, words):
    with pytest.raises(ValueError, match=words) as error:
        function()
    assert "\n" not in str(error.value)


def test_reading_asks_for_one_thing_and_stops_the_gradient_on_request():
    source = Source()
    assert read(source, ViewReference("student", "clean")).requires_grad
    assert not read(source, ViewReference("student", "clean", detached=True)).requires_grad
    read(source, ViewReference("teacher", "mirror", FEATURES, "layer"))
    read(source, ViewReference("peer", "clean", INPUT_GRADIENT))
    assert source.asked[2:] == [("features", "teacher", "mirror", "layer"), ("input_gradient", "peer", "clean")]
    assert len(source.asked) == 4
