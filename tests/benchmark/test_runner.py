"""Jobs side by side: the protocol between the process that hands out jobs and its workers."""

import logging
import multiprocessing
import threading
import time
from types import SimpleNamespace

import pytest

from kdrobust.benchmark import runner, work
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.runner import run_jobs, serve
from kdrobust.errors import StoppedError, UsageError
from tests.benchmark.suites import record, suite


@pytest.fixture
def jobs():
    made = suite()
    return jobs_of(made, made.blocks["main"])[:4]


def fake(job, root):
    logging.getLogger("kdrobust").info("at %s", job.label)
    if job.method == "standard":
        raise UsageError("data: it is not there")
    if job.method == "gentle":
        raise ZeroDivisionError("a mistake of ours")
    return record(job)


def test_a_failed_job_takes_no_other_down(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "do", fake)
    outcomes = list(run_jobs(jobs, root=tmp_path / "root", processes=1))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [outcome.record is not None for outcome in outcomes] == [True, False, False, True]
    assert outcomes[1].error == "data: it is not there"
    assert outcomes[2].error.startswith("ZeroDivisionError: a mistake of ours; see")
    text = (tmp_path / "root" / runner.LOG).read_text()
    assert f"at {jobs[0].label}" in text
    assert "Traceback" in text


def test_after_the_time_limit_no_job_is_begun(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "do", fake)
    assert list(run_jobs(jobs, root=tmp_path, processes=1, until=time.monotonic() - 1)) == []
    started = run_jobs(jobs, root=tmp_path, processes=1, until=time.monotonic() + 60)
    assert next(started).job == jobs[0]
    monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
    assert list(started) == []


def in_thread(root):
    here, there = multiprocessing.Pipe()
    thread = threading.Thread(target=serve, args=(there, root, 2))
    thread.start()
    return here, thread, there


def test_a_worker_answers_until_its_line_ends(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "do", fake)
    here, thread, _ = in_thread(tmp_path)
    here.send(jobs[0])
    assert here.recv().record["digest"] == jobs[0].digest
    here.send(jobs[1])
    assert here.recv().error == "data: it is not there"
    here.close()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_signal_in_a_worker_ends_the_run(jobs, tmp_path, monkeypatch):
    def stopped(job, root):
        raise StoppedError(15)

    monkeypatch.setattr(work, "do", stopped)
    here, thread, _ = in_thread(tmp_path)
    here.send(jobs[0])
    with pytest.raises(StoppedError, match="SIGTERM"):
        runner._hear(runner._Worker(process=None, line=here, job=jobs[0], began=0.0))
    thread.join(timeout=10)


class Recruit:
    """A worker that a test drives: it dies at its second job."""

    def __init__(self, kills):
        self.here, self.there = multiprocessing.Pipe()
        self.jobs, self.kills, self.exitcode, self.ended = 0, kills, None, False

    def start(self):
        self.thread = threading.Thread(target=self._live)
        self.thread.start()

    def _live(self):
        while True:
            try:
                job = self.there.recv()
            except EOFError:
                return
            if job.label in self.kills:
                self.exitcode = -9
                self.there.close()
                return
            self.there.send(runner.Outcome(job=job, record={"done": job.label}, seconds=1.0))

    def join(self):
        self.thread.join(timeout=10)

    def terminate(self):
        self.ended = True
        self.here.close()


def test_a_killed_process_costs_its_job_and_is_replaced(jobs, tmp_path, monkeypatch):
    recruits = []

    def start(job, root, processes):
        recruit = Recruit({job.label for job in jobs[:2]})
        recruits.append(recruit)
        recruit.start()
        recruit.here.send(job)
        return runner._Worker(process=recruit, line=recruit.here, job=job, began=0.0)

    monkeypatch.setattr(runner, "_start", start)
    outcomes = {outcome.job.label: outcome for outcome in run_jobs(jobs, root=tmp_path, processes=2)}
    assert set(outcomes) == {job.label for job in jobs}
    for job in jobs[:2]:
        assert outcomes[job.label].error == "its process ended with exit code -9, killed, perhaps for want of memory"
    assert all(outcomes[job.label].record for job in jobs[2:])
    assert len(recruits) in (3, 4)


def test_whoever_leaves_early_stops_the_workers(jobs, tmp_path, monkeypatch):
    ended, lines = [], []

    def start(job, root, processes):
        here, there = multiprocessing.Pipe()
        lines.append(there)
        there.send(runner.Outcome(job=job, record={}, seconds=0.0))
        process = SimpleNamespace(terminate=lambda: ended.append(job), join=lambda: None)
        return runner._Worker(process=process, line=here, job=job, began=0.0)

    monkeypatch.setattr(runner, "_start", start)
    running = run_jobs(jobs, root=tmp_path, processes=2)
    next(running)
    running.close()
    assert len(ended) == 2


def test_a_spawned_process_does_the_job_it_is_sent(tmp_path):
    made = suite(settings=["data=digit"])
    jobs = jobs_of(made, made.blocks["main"])[:1]
    (outcome,) = run_jobs(jobs, root=tmp_path, processes=2)
    assert outcome.job == jobs[0]
    assert "did you mean digits" in outcome.error
