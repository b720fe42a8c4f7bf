"""Latency with a clock of our own: no test depends on how fast the machine is."""

import itertools

import pytest
import torch
from torch import nn

from kdrobust.errors import CheckpointError
from kdrobust.evaluation import checkpoint_bytes, measure_latency, per_mflop
from kdrobust.evaluation.latency import Latency, _processor, machine_name
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(3,), classes=2)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(3, 2).double(), []
        self.norm = nn.BatchNorm1d(2).double()

    def forward(self, inputs):
        self.seen.append((len(inputs), self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return self.norm(self.linear(inputs))


def durations(values):
    """A clock by which the passes take these seconds, one after the other."""
    now, times = 0.0, itertools.chain.from_iterable((0.0, value) for value in values)

    def clock():
        nonlocal now
        now += next(times)
        return now

    return clock


def test_quartiles_of_the_timed_passes_only():
    model = Counting().train()
    # turns of (batch 1, batch 4): two warm-ups, then five
    times = [100.0, 100.0, 100.0, 100.0, 1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0, 5.0, 50.0]
    one, four = measure_latency(model, SPEC, batches=(1, 4), passes=5, warmup=2, threads=1, clock=durations(times))
    assert (one.batch, one.lower, one.median, one.upper, one.passes) == (1, 2.0, 3.0, 4.0, 5)
    assert (four.batch, four.median, four.threads, four.device) == (4, 30.0, 1, "cpu")
    assert four.samples_per_second == pytest.approx(4 / 30)
    assert four.machine == machine_name()
    assert [batch for batch, *_ in model.seen] == [1, 4] * 7
    assert all(not training and inference and threads == 1 for _, training, inference, threads in model.seen)


def test_leaves_no_trace_even_after_an_exception():
    model, before = Counting().train(), torch.get_num_threads()
    model.norm.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measure_latency(model, SPEC, batches=(2,), passes=1, warmup=0, threads=before + 1)
    with pytest.raises(RuntimeError):
        measure_latency(model, InputSpec(shape=(4,), classes=2), batches=(2,), passes=1, threads=before + 1)
    assert torch.get_num_threads() == before
    assert (model.training, model.linear.training, model.norm.training) == (True, True, False)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"passes": 0}, {"batches": (0,)}, {"threads": 0}, {"warmup": -1}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        measure_latency(Counting(), SPEC, **wrong)


def test_the_machine_is_named(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n")
    assert _processor(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert _processor(tmp_path / "missing") == ""
    assert "processor" in machine_name()


def test_sizes_on_disk(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"x" * 7)
    assert checkpoint_bytes(tmp_path / "a") == 10
    assert checkpoint_bytes(tmp_path) == 17
    with pytest.raises(CheckpointError, match="has no size on disk"):
        checkpoint_bytes(tmp_path / "missing")


def test_points_a_mflop():
    assert per_mflop(0.5, 2_000_000) == 25.0
    assert per_mflop(0.5, 0) is None
    fast = Latency(batch=1, median=0.0, lower=0.0, upper=0.0, passes=1, threads=1, device="cpu", machine="")
    assert fast.samples_per_second == float("inf")
