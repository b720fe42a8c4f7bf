"""Who writes a job's files, by the variables of what started it."""

import pytest

from kdrobust.cli import main
from kdrobust.tracking import is_main_process, made_by

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "sweep"}
NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_JOB_NAME", "SLURM_NTASKS", *TORCHRUN)


@pytest.fixture(autouse=True)
def nothing(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "main_process", "maker"),
    [
        ({}, True, None),
        # started by the launcher of ours, on one node and on the second of two
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, True, None),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, False, None),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "2"}, False, None),
        ({"NODE_RANK": "1"}, False, None),
        # torchrun: the first process of its second node has local rank 0
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, True, "torchrun"),
        ({**TORCHRUN, "RANK": "2", "LOCAL_RANK": "0"}, False, "torchrun"),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, True, None),
        # srun: no LOCAL_RANK
        ({**SLURM, "SLURM_PROCID": "0"}, True, "SLURM"),
        ({**SLURM, "SLURM_PROCID": "3"}, False, "SLURM"),
        # one task whose job starts its own ranks, and a shell in an allocation
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, True, None),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "1", "NODE_RANK": "0"}, False, None),
        ({**SLURM, "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0"}, True, None),
    ],
)
def test_who_writes(monkeypatch, variables, main_process, maker):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() is main_process
    assert made_by() == maker


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distill", "-m", "seed=0,1"], "-m: every process that torchrun started would run the sweep"),
        (["pipeline"], "pipeline: one process runs it"),
        (["outputs", "teacher.checkpoint=a.ckpt"], "outputs: one process runs it"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(monkeypatch, tmp_path, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    for name, value in {**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("status.json"))
