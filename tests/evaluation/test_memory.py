"""Samples an attack climbs at once: what a sample keeps, what a device has, and what fits."""

import pytest
import torch
from torch import nn

from kdrobust.evaluation import batch_within, free_bytes, memory, sample_bytes
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8, 8), classes=10)


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 1000), nn.Linear(1000, 10)

    def forward(self, inputs):
        return self.second(self.first(inputs.flatten(1)).relu())


def test_a_sample_takes_what_is_kept_for_the_way_back():
    model = TwoLayers().train()
    # relu's output, which the second layer keeps too, once; the input; no weights
    assert sample_bytes(model, SPEC) == 2 * 4 * (1000 + 64)
    assert model.training


def test_wider_models_take_more():
    narrow, wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 2)), TwoLayers()
    assert sample_bytes(narrow, SPEC) < sample_bytes(wide, SPEC) / 8


def test_a_model_whose_forward_fails_keeps_its_mode():
    model = TwoLayers().train()
    with pytest.raises(RuntimeError):
        sample_bytes(model, InputSpec(shape=(1, 9, 9), classes=10))
    assert model.training


@pytest.mark.parametrize(
    ("at_most", "one", "free", "processes", "fits"),
    [
        (250, 10**6, 64 * 10**9, 1, 250),
        (250, 10**6, None, 1, 250),
        (250, 0, 10**6, 1, 250),
        (250, 10**7, 2 * 10**9, 1, 128),
        (250, 10**7, 2 * 10**9, 2, 32),
        (100, 10**6, 10**8, 1, 1),
        (250, 10**12, 10**9, 1, 1),
        (1, 10**12, 10**9, 1, 1),
    ],
)
def test_what_fits(at_most, one, free, processes, fits):
    assert batch_within(at_most, one, free, processes) == fits


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A system that says what the test writes."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def test_what_a_cpu_has_left(machine):
    cpu = torch.device("cpu")
    assert free_bytes(cpu) is None
    (machine / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:  8000 kB\n")
    assert free_bytes(cpu) == 8000 * 1024
    (machine / "memory.current").write_text("1000\n")
    (machine / "memory.max").write_text("max\n")
    assert free_bytes(cpu) == 8000 * 1024
    (machine / "memory.max").write_text("5000\n")
    assert free_bytes(cpu) == 4000
    (machine / "memory.max").write_text("500\n")
    assert free_bytes(cpu) == 0


@pytest.mark.parametrize("text", ["", "MemAvailable:", "MemAvailable: many kB"])
def test_a_system_that_does_not_say_changes_nothing(machine, text):
    (machine / "meminfo").write_text(text)
    assert free_bytes(torch.device("cpu")) is None
    assert free_bytes(torch.device("mps")) is None


def test_this_machine_says():
    found = free_bytes(torch.device("cpu"))
    assert found is None or found > 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says():
    device = torch.device("cuda", 0)
    assert 0 < free_bytes(device) <= torch.cuda.get_device_properties(device).total_memory
