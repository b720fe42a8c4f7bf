"""Sweeps of real jobs: killed and taken up again, and several at a time."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdrobust.models import read_checkpoint
from tests.stages.conftest import IMPLIED, TEACHER, TINY, Workplace

ROOT = Path(__file__).resolve().parents[2]
GRID = [
    "distill", "-m", *TINY, "data.limit_train=512", "method=standard", "model@student=mlp", "epochs=2",
    "callbacks.robust_validation.attack.steps=1", "threat.eps=0.02", "optimizer.lr=0.003,0.01", "seed=0,1",
]  # fmt: skip
SWEEP = "outputs/sweeps/grid"
COLUMNS = ("job", "status", "optimizer.lr", "seed", "value", "accuracy", "robust_accuracy", "config_hash")


def table(place, sweep=SWEEP):
    with open(place.folder / sweep / "sweep.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compared(place):
    return [{name: row[name] for name in COLUMNS} for row in table(place)]


def records(place, sweep=SWEEP):
    return [json.loads(path.read_text()) for path in sorted((place.folder / sweep / "jobs").glob("*.json"))]


def start(place, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "kdrobust", *arguments]
    return subprocess.Popen(call, cwd=place.folder, env=environment, stdout=subprocess.DEVNULL)


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("whole"))
    place.run(*GRID, f"hydra.sweep.dir={SWEEP}")
    return place


def test_a_sweep_killed_at_any_moment_ends_as_the_uninterrupted_one(workplace, whole, capsys):
    process = start(workplace, *GRID, f"hydra.sweep.dir={SWEEP}")
    first = workplace.folder / SWEEP / "jobs" / "0.json"
    deadline = time.monotonic() + 60
    while not (first.exists() and json.loads(first.read_text())["status"] != "pending"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(random.uniform(0.0, 4.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = records(workplace)
    capsys.readouterr()
    workplace.run("sweep", "status", SWEEP)
    told = capsys.readouterr().out
    assert ("cut" in told) == any(job["status"] == "running" for job in before)
    workplace.run("sweep", "resume", SWEEP)
    assert compared(workplace) == compared(whole)
    assert {row["status"] for row in table(whole)} == {"completed"}
    assert len({row["value"] for row in table(whole)}) > 1
    for job, after in zip(before, records(workplace), strict=True):
        # what was completed was not started again
        assert after["starts"] == job["starts"] + (job["status"] != "completed") or job["status"] == "running"
        assert after["starts"] <= 2
    for name in ("sweep_summary.csv", "sweep_importance.csv"):
        assert (workplace.folder / SWEEP / name).read_text() == (whole.folder / SWEEP / name).read_text()


def test_two_jobs_at_a_time_share_one_teacher_and_come_to_the_same(workplace):
    sweep = [
        "distill", "-m", *TINY, *TEACHER, "teacher_training.epochs=1", "epochs=1", "method=kd", "model@student=mlp",
        "threads=auto", "method.temperature=1,4",
    ]  # fmt: skip
    workplace.run(*sweep, "hydra.sweep.dir=two", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    together = table(workplace, "two")
    assert [row["status"] for row in together] == ["completed"] * 2
    assert len({job["owner"]["pid"] for job in records(workplace, "two")} - {os.getpid()}) == 2
    teachers = {json.loads(p.read_text())["teacher"]["sha256"] for p in workplace.folder.glob("two/*/result.json")}
    assert len(teachers) == 1
    workplace.only("outputs/teacher/*")
    workplace.run(*sweep, "hydra.sweep.dir=one")
    names = ("job", "method.temperature", "seed", "value", "accuracy", "robust_accuracy", "config_hash")
    assert [[row[name] for name in names] for row in together] == [
        [row[name] for name in names] for row in table(workplace, "one")
    ]


def test_status_is_light(whole):
    script = (
        "import sys; from kdrobust.cli import main; code = main(sys.argv[1:]); "
        "print('HEAVY', sorted({'torch', 'numpy', 'hydra', 'matplotlib'} & set(sys.modules))); sys.exit(code)"
    )
    call = [sys.executable, "-c", script, "sweep", "status", SWEEP]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=whole.folder, env=environment, capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "4 jobs: 4 completed" in done.stdout
    assert "η²" in done.stdout


@pytest.mark.ddp
def test_two_jobs_of_two_processes_at_a_time_each_with_its_own_configuration(workplace):
    common = [
        *TINY, *IMPLIED, "threads=auto", "model@student=mlp", "epochs=1", "trainer=ddp_cpu", "data.batch_size=64",
    ]  # fmt: skip
    place = ["hydra.sweep.dir=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    workplace.run("distill", "-m", *common, "threat.eps=0.05,0.1", *place)
    results = [json.loads((workplace.folder / "sweep" / n / "result.json").read_text()) for n in "01"]
    assert [result["threat"]["eps"] for result in results] == [0.05, 0.1]
    # two processes with batches of 64 see what one with batches of 128 sees, if both have the same settings
    alone = [line for line in common if line not in ("trainer=ddp_cpu", "data.batch_size=64")]
    workplace.run("distill", *alone, "data.batch_size=128", "threat.eps=0.1", "run.folder=alone")
    one, swept = (read_checkpoint(workplace.folder / name / "best.ckpt")["state_dict"] for name in ("alone", "sweep/1"))
    for name, value in one.items():
        torch.testing.assert_close(swept[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_killed_worker_takes_no_other_job_down(workplace):
    command = [*GRID, "epochs=8", "hydra.sweep.dir=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = start(workplace, *[line for line in command if line not in ("epochs=2", "seed=0,1")])
    victim = workplace.folder / "s" / "jobs" / "0.json"
    deadline = time.monotonic() + 60
    while not (victim.exists() and json.loads(victim.read_text())["status"] == "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(json.loads(victim.read_text())["owner"]["pid"], signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert [job["status"] for job in records(workplace, "s")] == ["completed"] * 2
    assert records(workplace, "s")[0]["starts"] == 2


@pytest.mark.slow
def test_submitit_on_this_machine(workplace):
    pytest.importorskip("submitit")
    workplace.run(*GRID, "hydra.sweep.dir=s", "hydra/launcher=submitit_local")
    assert [row["status"] for row in table(workplace, "s")] == ["completed"] * 4
