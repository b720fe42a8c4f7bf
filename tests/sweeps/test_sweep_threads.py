import os

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.sweeps import threads


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    before = torch.get_num_threads()
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    yield
    torch.set_num_threads(before)
    for name, value in kept.items():
        os.environ.pop(name, None) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), (3, 3), (-1, 8), (-2, 7), (-20, 1)])
def test_jobs_at_a_time(eight, asked, expected):
    assert threads.parallel_jobs(OmegaConf.create({"n_jobs": asked})) == expected


def test_other_launchers(eight):
    assert threads.parallel_jobs(None) == 1
    local = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
    assert threads.parallel_jobs(OmegaConf.create({"_target_": local})) == 8


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("ranks", [1, 2])
def test_processes_times_threads_never_exceed_the_cores(eight, processes, ranks):
    own = threads.share(processes=processes, ranks=ranks)
    assert own >= 1
    assert own == 1 or own * processes * ranks <= 8


def test_a_job_gets_its_share_and_tells_its_ranks(eight):
    torch.set_num_threads(1)
    cfg = OmegaConf.create({"trainer": {"devices": 2, "strategy": {"_target_": "x"}}})
    threads.pin_threads(cfg, processes=1)
    assert torch.get_num_threads() == 1
    threads.pin_threads(cfg, processes=2)
    assert torch.get_num_threads() == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"
    threads.pin_threads(OmegaConf.create({}), processes=2)
    assert torch.get_num_threads() == 4
