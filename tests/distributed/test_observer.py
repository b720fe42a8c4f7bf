"""A rank that fails ends its job, and with it nothing else."""

import subprocess
import sys

import pytest

from kdrobust.distributed import finish_ranks, strategy
from kdrobust.errors import KdrobustError


def child(code):
    return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])


@pytest.fixture
def killed(monkeypatch):
    """The signals that would have ended this process."""
    found = []
    monkeypatch.setattr(strategy.signal, "raise_signal", found.append)
    return found


def observe(processes, **options):
    observer = strategy._RankObserver(processes, period=0.01, **options)
    observer.start()
    return observer


def test_a_job_that_ended_by_itself_is_left_alone(killed):
    processes = [child(1)]
    observer = observe(processes, grace=60.0)
    processes[0].wait()
    with pytest.raises(KdrobustError, match=r"exit codes \[1\]"):
        finish_ranks(processes, failed=False)
    observer.join(timeout=30)
    assert not observer.is_alive()
    assert processes == killed == []


def test_ranks_that_end_well_are_no_failure(killed):
    processes = [child(0)]
    observer = observe(processes, grace=0.0)
    processes[0].wait()
    observer.join(timeout=0.2)
    assert observer.is_alive(), "the job is not over yet"
    finish_ranks(processes, failed=False)
    observer.join(timeout=30)
    assert killed == []


def test_a_rank_that_waits_for_one_that_is_gone_is_ended(killed):
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    observer = observe([child(3), waiting], grace=0.05)
    observer.join(timeout=30)
    assert len(killed) == 1
    assert waiting.wait(timeout=10) == -9
