"""Signals to real processes: what they leave, and with what exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stages.conftest import IMPLIED

ROOT = Path(__file__).resolve().parents[2]
LONG = [
    "distill", *IMPLIED, "model@student=mlp", "epochs=5000", "data.limit_train=512", "threads=1",
    "attack.steps=1", "callbacks.robust_validation.attack.steps=1",
]  # fmt: skip


def start(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "kdrobust", *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert path.exists(), process.communicate(timeout=10)


@pytest.mark.ddp
def test_a_signal_to_the_parent_stops_every_process(tmp_path):
    process = start(tmp_path, *LONG, "trainer=ddp_cpu", "run.folder=run")
    wait_for(tmp_path / "run" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM" in printed
    assert "kdrobust distill resume=" in printed
    assert "Traceback" not in errors
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["error"]) == ("failed", "stopped by SIGTERM")
    left = subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.ddp
def test_a_killed_rank_ends_its_job_in_one_line_and_the_run_goes_on(tmp_path):
    job = [*LONG, "data.limit_train=64", "epochs=12", "trainer=ddp_cpu", "run.folder=run"]
    process = start(tmp_path, *job)
    wait_for(tmp_path / "run" / "last.ckpt", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (rank,) = [int(pid) for pid in children if "stages.rank" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(rank, signal.SIGKILL)
    # within a minute
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("trainer: rank 1 of this job was killed by SIGKILL")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["error"] == line
    again = start(tmp_path, *job)
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "going on after epoch" in printed
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 13


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_and_no_other_job_is_started(tmp_path):
    process = start(tmp_path, *LONG, "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    wait_for(tmp_path / "sweep" / "0" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped by SIGINT" in printed
    records = {
        path.stem: json.loads(path.read_text())["status"] for path in (tmp_path / "sweep" / "jobs").glob("*.json")
    }
    assert sorted(records.values()) == ["cut", "pending"], records
    assert not (tmp_path / "sweep" / "1" / "status.json").exists()
