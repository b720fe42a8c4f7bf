"""Every method of conf/method by commands in processes of their own: on two processes, stopped and resumed, reproduced."""

import csv
import json
import re

import pytest

from tests.combinations import judging, silent
from tests.combinations.processes import Forks, run
from tests.methods import METHODS

pytestmark = pytest.mark.ddp
#: One teacher for all, of the size of its students; two epochs of two steps.
TINY = [
    "model@teacher=mlp", "model@student=mlp", "epochs=2", "teacher_training.epochs=1", "natural_training.epochs=1",
    "data.limit_train=64", "data.limit_validation=20", "data.batch_size=32", "attack.steps=1",
    "teacher_training.attack.steps=1", "callbacks.robust_validation.attack.steps=1",
]  # fmt: skip
#: An implied teacher whose clean logits are stored; two teachers, one of them asked about attacked inputs.
TWO_PROCESSES = ["rslad", "mtard"]
#: A live teacher, a partner, targets that follow what the student has learnt: each a state of its own to come again.
REPRODUCED = ["saad", "peeraid", "absld"]
RESUMED = [name for name in METHODS if name not in (*TWO_PROCESSES, *REPRODUCED)]


@pytest.fixture(scope="module")
def starter():
    with pytest.MonkeyPatch.context() as patched:
        # the processes' environment is this one's
        patched.setenv("WANDB_MODE", "offline")
        yield Forks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("front_door")


def rows(folder):
    try:
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []


def completed(ended, folder):
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert not ended.left
    assert json.loads((folder / "status.json").read_text())["status"] == "completed"
    assert [row["epoch"] for row in rows(folder)] == ["0", "1"]
    validation = json.loads((folder / "result.json").read_text())["validation"]
    assert validation["samples"] == 20
    assert 0.0 <= validation["robust_accuracy"] <= 1.0


@pytest.mark.parametrize("method", TWO_PROCESSES)
def test_on_two_processes(starter, folder, method):
    command = ["distill", *TINY, f"method={method}", "data.batch_size=16"]
    ended = run(starter, folder, [*command, "trainer=ddp_cpu", f"run.folder=two/{method}"])
    completed(ended, folder / "two" / method)


def test_two_processes_learn_and_measure_what_one_does(starter, folder):
    """The same samples a step, and as many in validation; the teacher is given, for it was trained by two."""
    (method, *_), lines = TWO_PROCESSES, [*TINY, "data.batch_size=16"]
    two = folder / "two" / method
    if not (two / "result.json").exists():
        run(starter, folder, ["distill", *lines, f"method={method}", "trainer=ddp_cpu", f"run.folder=two/{method}"])
    teacher = judging.result(two)["teacher"]["checkpoint"]
    alone = [*TINY, f"method={method}", f"teacher.checkpoint={teacher}", f"run.folder=one/{method}"]
    completed(run(starter, folder, ["distill", *alone]), folder / "one" / method)
    assert silent.apart(folder / "one" / method, two) == []


@pytest.mark.parametrize("method", RESUMED)
def test_stopped_after_an_epoch_and_resumed(starter, folder, method):
    place = folder / "stopped" / method
    # long enough for the signal
    command = ["distill", *TINY, "data.batch_size=4", f"method={method}", f"run.folder=stopped/{method}"]
    ended = run(starter, folder, command, until=lambda: len(rows(place)) > 0)
    assert (ended.code, ended.left) == (143, False), ended.output
    printed = re.search(r"to go on: kdrobust (distill) (resume=\S+),", ended.output)
    assert printed, ended.output
    ended = run(starter, folder, printed.groups())
    assert "going on after" in ended.output
    completed(ended, place)


@pytest.mark.parametrize("method", REPRODUCED)
def test_reproduced(starter, folder, method):
    ended = run(starter, folder, ["distill", *TINY, f"method={method}", f"run.folder=again/{method}"])
    completed(ended, folder / "again" / method)
    ended = run(starter, folder, ["reproduce", f"again/{method}/result.json", "--anyway"])
    completed(ended, folder / "again" / f"{method}-again")
