"""Two gloo processes against one."""

import json
import os

import numpy as np
import pytest

from tests.stages.conftest import IMPLIED, TEACHER, TINY, Workplace

pytestmark = pytest.mark.ddp


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    workplace = Workplace(tmp_path_factory.mktemp("processes"))
    workplace.run("teacher", *TINY, *TEACHER, "trainer=ddp_cpu", "data.batch_size=64", "run.folder=two")
    return workplace


def test_training_on_two_processes_and_nothing_left_in_the_environment(place):
    result = json.loads((place.folder / "two" / "result.json").read_text())
    assert result["validation"]["samples"] == 40
    assert (place.folder / "two" / "best.ckpt").exists()
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"} & set(os.environ)


def test_two_processes_and_one_give_the_same_verdicts(place):
    common = ["evaluate", "checkpoint=two/best.ckpt", "evaluation.num_samples=101"]
    place.run(*common, "run.folder=by_one")
    place.run(*common, "run.folder=by_two", "trainer=ddp_cpu")
    one, two = (np.load(place.folder / name / "samples.npz") for name in ("by_one", "by_two"))
    assert len(np.unique(two["indices"])) == len(two["indices"]) == 101
    for name in ("indices", "labels", "clean", "fgsm", "pgd20"):
        assert np.array_equal(one[name], two[name]), name


# CI asks the same of jobs one after another in tests/sweeps/test_sweeper.py, of two at a time in test_sweeps.py
@pytest.mark.slow
def test_a_sweep_of_two_process_jobs_gives_each_job_its_own_configuration(place):
    place.run(
        "distill",
        "-m",
        *TINY,
        *IMPLIED,
        "epochs=1",
        "trainer=ddp_cpu",
        "data.batch_size=64",
        "threat.eps=0.05,0.1",
    )
    results = sorted((place.folder / "outputs" / "sweeps").glob("*/*/result.json"))
    assert [json.loads(path.read_text())["threat"]["eps"] for path in results] == [0.05, 0.1]
