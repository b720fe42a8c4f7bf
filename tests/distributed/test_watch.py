"""Processes that wait for another one in vain: each ends by itself, on a signal, or with its parent."""

import json
import os
import signal
import subprocess
import sys
import time

from kdrobust.distributed import watch
from kdrobust.tracking import hold

# a rendezvous whose other rank never comes, as in a job of which one rank waits elsewhere
WAITING = """
import signal, sys
from datetime import timedelta
from kdrobust.cli import _on_sigterm, _terminate
from kdrobust.distributed.watch import SignalWatch
import torch.distributed as dist
_on_sigterm(_terminate)
SignalWatch([], patience=0.5, period=0.1).listen()
print("waits", flush=True)
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=2, timeout=timedelta(seconds=60))
"""


def test_a_process_that_waits_in_a_rendezvous_ends_on_sigterm():
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"waits\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert b"SIGTERM: ended while waiting for another process" in said


def test_a_process_that_obeys_is_left_alone(monkeypatch):
    ended = []
    monkeypatch.setattr(watch, "_end", ended.append)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    seen = watch.SignalWatch([], patience=0.2, period=0.02)
    try:
        seen.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            sum(range(50))
        assert ended == []
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)


def test_a_rank_without_its_parent_ends():
    rank = "from kdrobust.distributed.watch import end_with_parent as e; e(grace=0.1, period=0.05); print('up', flush=True)"
    sleeping = f"{rank}; import time; time.sleep(60)"
    parent = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", parent, sleeping], capture_output=True, text=True, check=True)
    pid, until = int(done.stdout), time.monotonic() + 20
    while time.monotonic() < until and not _ended(pid):
        time.sleep(0.1)
    assert _ended(pid)


def _ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_job_that_is_given_up_says_so_in_its_status(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(watch, "_end", ended.append)
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
    with hold(tmp_path, config_hash="0"):
        watch.RankWatch([child], tmp_path, alone=0.0, period=0.01).run()
        status = json.loads((tmp_path / "status.json").read_text())
    assert (status["status"], ended) == ("failed", [1])
    assert "another rank of this job ended with an error" in status["error"]
