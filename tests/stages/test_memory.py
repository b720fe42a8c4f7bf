import os
import signal

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.modules import DistillationModule
from kdrobust.stages.memory import OutOfMemoryError, WorkerKilledError, fitting_batch, told_memory
from tests.stages.conftest import TINY

GIB = 2**30


@pytest.mark.parametrize(
    ("batch", "needed", "available", "fits"),
    [
        (128, None, None, 64), (100, None, None, 32), (1, None, None, 1), (2, None, None, 1),
        (128, 16 * GIB, 8 * GIB, 32), (128, 9 * GIB, 10 * GIB, 64), (128, 1000 * GIB, GIB, 1),
    ],
)  # fmt: skip
def test_the_batch_that_fits(batch, needed, available, fits):
    assert fitting_batch(batch, needed, available) == fits
    assert fits < batch or batch == 1


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError(),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        ({"stage": "distill", "data": {"batch_size": 128}}, "data.batch_size=128: out of memory; about 64 would fit"),
        ({"stage": "evaluate", "evaluation": {"batch_size": 16}}, "evaluation.batch_size=16: out of memory"),
    ],
)
def test_the_line(monkeypatch, error, cfg, line):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OutOfMemoryError) as caught, told_memory(OmegaConf.create(cfg)):
        raise error
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_gpu_says_how_much(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 6 * GIB)
    with (
        pytest.raises(OutOfMemoryError, match="about 64 would fit"),
        told_memory(OmegaConf.create({"data": {"batch_size": 128}})),
    ):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="a bug"), told_memory(OmegaConf.create({})):
        raise RuntimeError("a bug")


def test_a_run_without_memory_ends_with_the_line_and_tries_once(workplace, capsys, monkeypatch):
    calls = []

    def training_step(self, batch, index):
        calls.append(len(batch.labels))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DistillationModule, "training_step", training_step)
    workplace.run("distill", *TINY, "method=standard", "data.batch_size=32", code=1)
    error = capsys.readouterr().err
    assert error.startswith("data.batch_size=32: out of memory; about 16 would fit: set data.batch_size=16")
    assert error.count("\n") == 1
    assert calls == [32]


class Killed(torch.utils.data.Dataset):
    """Ends the worker that reads it, as the kernel does when memory is short."""

    def __len__(self):
        return 8

    def __getitem__(self, place):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_data_worker_is_named():
    loader = torch.utils.data.DataLoader(Killed(), batch_size=2, num_workers=1)
    with (
        pytest.raises(WorkerKilledError, match=r"data.num_workers=1: a process that reads data was killed"),
        told_memory(OmegaConf.create({"data": {"num_workers": 1}})),
    ):
        next(iter(loader))
