import json
import os
from pathlib import Path

import pytest

from kdrobust.cli import main

#: seconds, not minutes: one epoch on a few digits with tiny networks
TINY = [
    "epochs=2",
    "data.limit_train=128",
    "data.limit_validation=40",
    "attack.steps=2",
    "callbacks.robust_validation.attack.steps=2",
    "threads=1",
]
#: a teacher that is trained along the way, in no time
IMPLIED = ["model@teacher=mlp", "teacher_training.epochs=1"]
TEACHER = ["teacher.network.width=0.1", "model@teacher=wide_cnn"]


class Workplace:
    """An empty folder in which commands are typed."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *arguments, code=0):
        here = os.getcwd()
        os.chdir(self.folder)
        try:
            assert main([str(argument) for argument in arguments]) == code
        finally:
            os.chdir(here)

    def only(self, pattern):
        found = sorted(Path(self.folder).glob(pattern))
        assert len(found) == 1, (pattern, found)
        return found[0]

    def result(self, pattern):
        return json.loads((self.only(pattern) / "result.json").read_text())


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A teacher, trained once for all tests."""
    place = Workplace(tmp_path_factory.mktemp("trained"))
    place.run("teacher", *TINY, *TEACHER)
    return place.only("outputs/teacher/*")
