"""The objective: what it computes, what it never computes, and what it refuses."""

import pytest
import torch

from kdrobust.losses import Objective, method_problems
from kdrobust.losses.schedules import cosine, linear, step, switch

LABELS = torch.tensor([0, 2, 1])


class Outputs:
    labels = LABELS

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.tensors = {}
        for name in ("student.clean", "student.adversarial", "teacher.clean", "teacher.adversarial"):
            self.tensors[name] = torch.randn(3, 3, generator=generator).requires_grad_(name.startswith("student"))
        self.asked = []

    def logits(self, model, view):
        self.asked.append(f"{model}.{view}")
        return self.tensors[f"{model}.{view}"]


def kd(weight, /, **extra):
    term = {"loss": "soft_target", "student": "clean", "teacher": "clean", "weight": weight} | extra
    return {"temperature": 2.0, "terms": {"knowledge": term, "labels": {"loss": "cross_entropy", "student": "clean"}}}


def test_loss_is_the_weighted_sum_and_every_part_is_reported():
    result = Objective.from_method(kd(0.5))(Outputs())
    parts = result.parts
    assert set(parts) == {"knowledge", "labels"}
    assert parts["knowledge"].weight == 0.5
    assert float(parts["knowledge"].contribution) == pytest.approx(0.5 * float(parts["knowledge"].value))
    assert float(result.loss) == pytest.approx(sum(float(part.contribution) for part in parts.values()))


def test_a_term_of_weight_zero_is_never_computed():
    objective = Objective.from_method(kd(0.0))
    outputs = Outputs()
    objective(outputs)
    assert outputs.asked == ["student.clean"]
    assert objective.teachers == frozenset()


def test_what_a_method_reads():
    method = {"terms": {"a": {"loss": "soft_target", "student": "adversarial", "teacher": "student.clean"}}}
    objective = Objective.from_method(method)
    assert {str(reference) for reference in objective.references} == {"student.adversarial", "student.clean"}
    assert objective.needs_attack
    assert not objective.teachers


def test_gradient_flows_through_the_students_own_target():
    outputs = Outputs()
    method = {"terms": {"a": {"loss": "soft_target", "student": "adversarial", "teacher": "student.clean"}}}
    Objective.from_method(method)(outputs).loss.backward()
    assert float(outputs.tensors["student.clean"].grad.abs().sum()) > 0


def test_weights_and_temperatures_may_be_schedules():
    ramp = {"schedule": "linear", "start": 0.0, "end": 1.0, "until": 10}
    method = kd(ramp, temperature={"schedule": "switch", "start": 1.0, "end": 4.0, "begin": 5})
    objective = Objective.from_method(method)
    outputs = Outputs()
    assert "knowledge" not in objective(outputs, 0.0).parts
    assert objective(outputs, 2.5).parts["knowledge"].weight == pytest.approx(0.25)
    assert objective(outputs, 10.0).parts["knowledge"].value != objective(outputs, 2.5).parts["knowledge"].value


def test_schedules():
    assert linear(5, start=0, end=1, until=10) == 0.5
    assert linear(50, start=0, end=1, until=10) == 1.0
    assert cosine(5, start=1, end=0, until=10) == pytest.approx(0.5)
    assert cosine(0, start=1, end=0, until=10) == 1.0
    assert step(7, start=1.0, milestones=[3, 6, 9], factor=0.1) == pytest.approx(0.01)
    assert switch(4.9, start=0, end=2, begin=5) == 0
    assert switch(5, start=0, end=2, begin=5) == 2
    with pytest.raises(ValueError, match="until"):
        linear(0, start=0, end=1, until=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "soft_tagret"}, ["method.terms.knowledge.loss", "did you mean soft_target"]),
        ({"temprature": 4}, ["method.terms.knowledge.temprature", "temperature"]),
        ({"student": "cleen"}, ["method.terms.knowledge.student", "clean"]),
        ({"weight": "many"}, ["method.terms.knowledge.weight", "number"]),
        ({"weight": -0.5}, ["method.terms.knowledge.weight", "negative"]),
        ({"weight": {"schedule": "liner"}}, ["schedule", "linear"]),
        ({"weight": {"schedule": "linear", "start": 0}}, ["weight", "needs"]),
        ({"temperature": 0.0}, ["method.terms.knowledge", "temperature must be positive"]),
        ({"reduction": "mean"}, ["reduction"]),
        ({"role": "knowledge"}, ["role"]),
        ({"loss": "os.system"}, ["trusted_modules"]),
        ({"sample_weight": {"function": "dout", "student": "clean"}}, ["sample_weight", "doubt"]),
    ],
)
def test_mistakes_are_one_line_with_the_key(change, words):
    problems = method_problems(kd(0.5, **change))
    assert len(problems) == 1
    assert "\n" not in problems[0]
    for word in words:
        assert word in problems[0]
    with pytest.raises(ValueError, match="method"):
        Objective.from_method(kd(0.5, **change))


def test_all_problems_are_listed_at_once():
    method = {"terms": {"a": {"loss": "nothing"}, "b": {"loss": "cross_entropy"}, "c": 3}}
    problems = method_problems(method)
    assert [problem.split(":")[0] for problem in problems] == [
        "method.terms.a.loss",
        "method.terms.b",
        "method.terms.c",
    ]


def test_a_shared_value_nobody_takes_and_nothing_to_learn():
    alone = {"temperature": 4.0, "terms": {"a": {"loss": "cross_entropy", "student": "clean"}}}
    assert "method.temperature" in method_problems(alone)[0]
    nothing = {"terms": {"a": {"loss": "cross_entropy", "student": "clean", "weight": 0.0}}}
    assert "nothing to learn" in method_problems(nothing)[0]
    assert "at least one term" in method_problems({"terms": {}})[0]


def test_describe_is_plain():
    described = Objective.from_method(kd(0.5)).describe()
    assert described["knowledge"] == {
        "loss": "soft_target",
        "weight": 0.5,
        "student": "student.clean",
        "teacher": "teacher.clean",
        "temperature": 2.0,
    }
