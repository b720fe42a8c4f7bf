"""Ranks that kdrobust did not start: torchrun's, and one process a node."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdrobust.models import read_checkpoint
from tests.stages.conftest import Workplace

pytestmark = pytest.mark.ddp
ROOT = Path(__file__).resolve().parents[2]
JOB = [
    "distill", "method=kd", "model@teacher=mlp", "model@student=mlp", "epochs=1", "teacher_training.epochs=1",
    "data.limit_train=128", "data.limit_validation=40", "attack.steps=1", "callbacks.robust_validation.attack.steps=1",
    "callbacks.attack.warmup=0",
]  # fmt: skip
HALVES = ["trainer=ddp_cpu", "data.batch_size=32"]


def start(folder, *arguments, module="kdrobust", **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    call = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(call, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def torchrun(folder, *arguments):
    # its store finds a free port
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    return start(folder, *options, "-m", "kdrobust", *arguments, module="torch.distributed.run")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("alone"))
    place.run(*JOB, "data.batch_size=64", "threads=1", "run.folder=run")
    return place


def weights(folder):
    return read_checkpoint(folder / "run" / "best.ckpt")["state_dict"]


def same_as(alone, folder):
    one, other = weights(alone.folder), weights(folder)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    # the teacher was trained by all ranks, once
    assert len(list(folder.glob("outputs/teacher/*/result.json"))) == 1


def test_ranks_of_torchrun_train_one_model(alone, tmp_path):
    process = torchrun(tmp_path, *JOB, *HALVES, "run.folder=run")
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0, said
    same_as(alone, tmp_path)


def test_two_nodes_of_one_process_train_one_model(alone, tmp_path):
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    job = [*JOB, *HALVES, "trainer.devices=1", "trainer.num_nodes=2", "run.folder=run"]
    nodes = [start(tmp_path, *job, NODE_RANK=str(rank), **address) for rank in range(2)]
    said = [node.communicate(timeout=120)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    same_as(alone, tmp_path)
