"""A rank that fails ends its job, and with it nothing else."""

import subprocess
import sys

import pytest
import torch.distributed as dist

from kdrobust.distributed import finish_ranks, watch
from kdrobust.distributed.gone import is_lost_connection, rank_that_is_gone
from kdrobust.errors import KdrobustError


def child(code):
    return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])


@pytest.fixture
def killed(monkeypatch):
    """The exit codes that would have ended this process."""
    found = []
    monkeypatch.setattr(watch, "_end", found.append)
    return found


def observe(processes, **options):
    observer = watch.RankWatch(processes, period=0.01, alone=options["grace"], **options)
    observer.start()
    return observer


def test_a_job_that_ended_by_itself_is_left_alone(killed):
    processes = [child(1)]
    observer = observe(processes, grace=60.0)
    processes[0].wait()
    with pytest.raises(KdrobustError, match=r"exit codes \[1\]"):
        finish_ranks(processes, error=None)
    observer.join(timeout=30)
    assert not observer.is_alive()
    assert processes == killed == []


def test_ranks_that_end_well_are_no_failure(killed):
    processes = [child(0)]
    observer = observe(processes, grace=0.0)
    processes[0].wait()
    observer.join(timeout=0.2)
    assert observer.is_alive(), "the job is not over yet"
    finish_ranks(processes, error=None)
    observer.join(timeout=30)
    assert killed == []


def test_a_rank_that_waits_for_one_that_is_gone_is_ended(killed):
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    observer = observe([child(3), waiting], grace=0.05)
    observer.join(timeout=30)
    assert len(killed) == 1
    assert waiting.wait(timeout=10) == -9


LOST = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection reset by peer")


@pytest.fixture
def asleep():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_only_a_collective_s_error_is_a_lost_connection():
    assert is_lost_connection(LOST)
    assert is_lost_connection(dist.DistNetworkError("the client socket has timed out"))
    assert not is_lost_connection(RuntimeError("shapes cannot be multiplied"))
    assert not is_lost_connection(KdrobustError("terms: loss is nan; gloo"))


def test_what_a_rank_ended_with_is_told(asleep):
    assert rank_that_is_gone([asleep], patience=0.1) is None
    told = rank_that_is_gone([asleep, child(3)], patience=30.0)
    assert told.startswith("trainer: rank 2 of this job ended with exit code 3, its error stands above")
    asleep.kill()
    assert "rank 1 of this job was killed by SIGKILL (" in rank_that_is_gone([asleep], patience=30.0)


def test_this_rank_s_failure_is_told_as_the_other_s_only_where_it_is_one(asleep):
    with pytest.raises(KdrobustError, match=r"rank 2 of this job ended with exit code 7.*the same command") as told:
        finish_ranks([asleep, child(7)], error=LOST)
    assert told.value.__cause__ is LOST
    assert asleep.poll() == -15, "what waits for it is ended too"
    finish_ranks([child(7)], error=ValueError("mine"))
    finish_ranks([child(0)], error=LOST, timeout=1.0)


def test_a_process_that_ends_takes_its_group_down_first():
    """Left alive, gloo's threads abort about one process in four at its end."""
    lines = [
        "import torch.distributed as dist, kdrobust.distributed",
        "dist.init_process_group('gloo', rank=0, world_size=1, store=dist.HashStore())",
        "end = dist.destroy_process_group",
        "dist.destroy_process_group = lambda: (end(), print('ended'))",
    ]
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["ended"]
