"""Where a checkpoint comes from, as far as files tell."""

import json

import pytest

from kdrobust.models import file_hash
from kdrobust.stages.provenance import evaluations_of, teacher_path, training_of


@pytest.fixture
def student(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "best.ckpt").write_bytes(b"student")
    (tmp_path / "teacher.ckpt").write_bytes(b"teacher")
    return folder / "best.ckpt"


def tell(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_training_with_command_and_epochs(student):
    assert training_of(student) is None
    told = {"stage": "distill", "checkpoint": {"path": "anywhere", "sha256": file_hash(student)}}
    tell(student.parent / "result.json", **told)
    assert training_of(student) == told
    tell(student.parent / "manifest.json", command="kdrobust distill")
    (student.parent / "config_resolved.yaml").write_text("epochs: 30\n")
    assert training_of(student) == {**told, "command": "kdrobust distill", "epochs": 30}
    (student.parent / "config_resolved.yaml").write_text("epochs: [}\n")
    assert training_of(student) == {**told, "command": "kdrobust distill"}
    student.write_bytes(b"another")
    assert training_of(student) is None


def test_a_live_teacher_and_one_behind_stored_outputs(student, tmp_path):
    teacher = tmp_path / "teacher.ckpt"
    assert teacher_path(student) is None
    tell(student.parent / "result.json", teacher={"checkpoint": str(teacher), "sha256": file_hash(teacher)})
    assert teacher_path(student) == teacher
    outputs = tmp_path / "outputs"
    tell(outputs / "outputs.json", checkpoint={"path": str(teacher), "sha256": file_hash(teacher)})
    tell(student.parent / "result.json", teacher={"outputs": str(outputs), "sha256": "of the outputs"})
    assert teacher_path(student) == teacher
    teacher.write_bytes(b"trained anew")
    assert teacher_path(student) is None
    teacher.unlink()
    assert teacher_path(student) is None
    tell(student.parent / "result.json", teacher=None)
    assert teacher_path(student) is None


def evaluation(n=10, unreliable=False):
    return {
        "n": n, "threat": {"norm": "linf", "eps": 0.1}, "clean": {}, "worst_case": {}, "unreliable": unreliable,
        "reasons": [], "attacks": {"pgd20": {}, "square": {}},
    }  # fmt: skip


def test_earlier_evaluations_of_the_same_checkpoint(tmp_path):
    mine, other = {"path": "p", "sha256": "m"}, {"path": "q", "sha256": "o"}
    tell(tmp_path / "a" / "result.json", stage="evaluate", checkpoint=mine, evaluation=evaluation(unreliable=True))
    tell(tmp_path / "b" / "result.json", stage="evaluate", checkpoint=other, evaluation=evaluation())
    tell(tmp_path / "c" / "result.json", stage="distill", checkpoint=mine)
    rows = [{"name": str(n), "results": [{"checkpoint": mine, "evaluation": evaluation(n)}]} for n in (20, 30)]
    tell(tmp_path / "d" / "result.json", stage="evaluate", checkpoint=other, evaluation=evaluation(), models=rows)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "result.json").write_text("{")
    found = evaluations_of("m", tmp_path)
    assert [(each["n"], each["unreliable"], each["over"]) for each in found] == [
        (10, True, ["pgd20", "square"]), (20, False, ["pgd20", "square"]), (30, False, ["pgd20", "square"]),
    ]  # fmt: skip
    assert evaluations_of("m", tmp_path / "nowhere") == []
