"""What becomes of jobs that are started again, with a stage that takes no time."""

import csv
import json
import os
import shutil
from concurrent.futures.process import BrokenProcessPool

import pytest

from kdrobust.cli import main
from kdrobust.errors import DataError
from kdrobust.sweeps.record import Job, read_job, read_jobs, read_sweep, write_job, write_sweep
from kdrobust.sweeps.session import quoted
from kdrobust.tracking.owner import me

GRID = ["study", "-m", "seed=0,1,2"]


def fails_at(seed, error):
    def act(cfg):
        if cfg.seed == seed:
            raise error

    return act


def table(place):
    with open(place.sweep / "sweep.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_completed_jobs_are_skipped_and_failed_ones_run_anew(place, capsys):
    place.act = fails_at(1, DataError("first line\nx_train: NaN"))
    assert main(GRID) == 1
    assert [job.status for job in read_jobs(place.sweep)] == ["completed", "failed", "completed"]
    assert read_job(place.sweep, 1).error == "x_train: NaN"
    assert [row["value"] for row in table(place)] == ["0.03", "", "0.23"]
    assert "job 1 (seed=1): x_train: NaN" in capsys.readouterr().out
    place.act, place.ran = lambda cfg: None, []
    assert main(["sweep", "resume", str(place.sweep)]) == 0
    assert place.ran == [1]
    assert [row["status"] for row in table(place)] == ["completed"] * 3
    assert [row["starts"] for row in table(place)] == ["1", "2", "1"]
    assert [row["robust_accuracy"] for row in table(place)] == ["0.03", "0.13", "0.23"]
    place.ran = []
    assert main(GRID) == 0
    assert place.ran == []
    assert read_sweep(place.sweep)["attempt"] == 3


def test_a_bug_is_told_with_its_name(place):
    place.act = fails_at(0, RuntimeError("a bug"))
    assert main(GRID) == 1
    assert read_job(place.sweep, 0).error == "RuntimeError: a bug"


def test_a_changed_job_runs_and_the_old_run_is_set_aside(place):
    assert main(GRID) == 0
    place.ran = []
    assert main([*GRID, "epochs=4"]) == 0
    assert place.ran == [0, 1, 2]
    assert [row["value"] for row in table(place)] == ["0.04", "0.14", "0.24"]
    kept = sorted((place.sweep / "superseded").glob("*/result.json"))
    assert len(kept) == 3
    assert json.loads(kept[0].read_text())["validation"]["robust_accuracy"] == 0.03


def test_a_longer_grid_runs_only_what_is_new(place):
    assert main(["study", "-m", "seed=0,1"]) == 0
    place.ran = []
    assert main(GRID) == 0
    assert place.ran == [2]


def test_a_deleted_run_is_made_again(place):
    assert main(GRID) == 0
    shutil.rmtree(place.sweep / "1")
    place.ran = []
    assert main(GRID) == 0
    assert place.ran == [1]


def test_a_run_that_ended_just_before_its_record_is_not_run_twice(place):
    assert main(GRID) == 0
    job = read_job(place.sweep, 1)
    job.status, job.value, job.robust_accuracy, job.owner = "running", None, None, {**me(), "born": 1}
    write_job(place.sweep, job)
    assert job.state == "cut"
    place.ran = []
    assert main(GRID) == 0
    assert place.ran == []
    assert [row["value"] for row in table(place)] == ["0.03", "0.13", "0.23"]
    assert [row["starts"] for row in table(place)] == ["1"] * 3


def test_an_interrupt_leaves_a_cut_job_and_pending_ones(place):
    place.act = fails_at(1, KeyboardInterrupt())
    assert main(GRID) == 130
    assert [job.status for job in read_jobs(place.sweep)] == ["completed", "cut", "pending"]
    assert read_sweep(place.sweep)["status"] == "cut"
    place.act, place.ran = lambda cfg: None, []
    assert main(GRID) == 0
    assert place.ran == [1, 2]


def test_a_sweep_that_runs_is_not_started_twice(place, capsys):
    assert main(GRID) == 0
    write_sweep(place.sweep, status="running", owner={**me(), "pid": os.getppid(), "born": None})
    assert main(GRID) == 1
    assert "runs this sweep" in capsys.readouterr().err
    write_sweep(place.sweep, owner={**me(), "born": 1})
    assert main(GRID) == 0


def test_resume_is_typed_where_the_sweep_began(place, tmp_path_factory, monkeypatch, capsys):
    place.act = fails_at(2, DataError("no"))
    assert main([*GRID, "run.root=out puts", "hydra.sweep.dir='a, b/it'"]) == 1
    sweep = place.folder / "a, b" / "it"
    assert [job.status for job in read_jobs(sweep)] == ["completed", "completed", "failed"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    place.act, place.ran = lambda cfg: None, []
    capsys.readouterr()
    assert main(["sweep", "resume", str(sweep)]) == 2
    assert f"was started in {place.folder}; go there first: cd {place.folder}" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []
    monkeypatch.chdir(place.folder)
    assert main(["sweep", "resume", "a, b/it"]) == 0
    assert place.ran == [2]


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["start", "x"], ["status", "absent"], ["resume", "x", "metric=value"], ["status", "a", "b"]],
)
def test_mistakes_are_one_line(place, capsys, arguments):
    assert main(["sweep", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_ended_job_is_a_line_of_the_log(place):
    assert main(GRID) == 0
    lines = (place.sweep / "sweep.log").read_text().splitlines()
    assert [line.split("] ")[1].split(";")[:2] for line in lines] == [
        [f"job {n} (seed={n}): robust accuracy 0.{n}300 in 0 s", f" {n + 1} of 3 done"] for n in range(3)
    ]
    assert lines[-1].endswith("best so far: job 2, robust accuracy 0.2300")


class Killing:
    """A launcher whose pool breaks when a job kills its process, as joblib's does: all running jobs are cut."""

    def __init__(self, session, folder, deadly):
        self.session, self.folder, self.deadly, self.calls = session, folder, deadly, []

    def __call__(self, overrides, initial_job_idx):
        numbers = list(range(initial_job_idx, initial_job_idx + len(overrides)))
        self.calls.append(numbers)
        for number in numbers:
            job = read_job(self.folder, number)
            if job.status in ("completed", "failed"):
                continue
            alone = len(numbers) == 1
            if number in self.deadly:
                gone = {**me(), "born": 1}
                others = [] if alone else [other for other in numbers if other == number + 1]
                for cut in (number, *others):
                    write_job(self.folder, Job(job=cut, status="running", owner=gone))
                raise BrokenProcessPool
            write_job(self.folder, Job(job=number, status="completed"))
        return numbers


def test_a_killed_process_fails_its_own_job_only(place):
    from kdrobust.sweeps.session import Session

    assert main(GRID) == 0
    shutil.rmtree(place.sweep / "jobs")
    session = object.__new__(Session)
    session.folder, session.attempt, session.is_search = place.sweep, 2, False
    launch = Killing(session, place.sweep, deadly={0, 3})
    assert session.launch(launch, [[f"seed={n}"] for n in range(5)], 0) == [0, 1, 2, 3, 4]
    jobs = read_jobs(place.sweep)
    assert [job.status for job in jobs] == ["failed", "completed", "completed", "failed", "completed"]
    assert "killed" in jobs[0].error
    assert launch.calls == [[0, 1, 2, 3, 4], [0], [1], [0, 1, 2, 3, 4], [3], [4], [0, 1, 2, 3, 4]]


def test_a_job_that_failed_is_not_tried_again_in_the_same_attempt(place):
    tries = []

    def act(cfg):
        tries.append(int(cfg.seed))
        raise DataError("no")

    place.act = act
    assert main(["study", "-m", "seed=5"]) == 1
    job = read_job(place.sweep, 0)
    # the next attempt's number: as if the pool had broken in it, after this job had failed
    job.attempt += 1
    write_job(place.sweep, job)
    assert main(["study", "-m", "seed=5"]) == 1
    assert tries == [5]


def test_quoting_survives_hydra_s_grammar():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in ("plain", "a b", "it's", "x=1,2", "back\\slash", "{curly}[square](round)", "end\\"):
        parsed = OverridesParser.create().parse_override(f"key={quoted(text)}")
        assert parsed.value() == text
        assert not parsed.is_sweep_override()


def test_a_search_keeps_its_own_books(place, monkeypatch, capsys):
    from kdrobust.sweeps import session

    class Searching(session.Session):
        def __init__(self, cfg, stage, flags=()):
            super().__init__(cfg, stage, flags)
            self.is_search = True
            write_sweep(self.folder, search=True)

    monkeypatch.setattr(session, "Session", Searching)
    assert main(GRID) == 0
    assert place.ran == [0, 1, 2]
    assert read_jobs(place.sweep) == []
    assert main(["sweep", "status", str(place.sweep)]) == 0
    assert "trials.csv" in capsys.readouterr().out


def test_a_resume_takes_a_metric_and_no_overrides(place, capsys):
    assert main(["study", "-m", "seed=0,1", f"hydra.sweep.dir={place.sweep}"]) == 0
    assert main(["sweep", "resume", str(place.sweep), "seed=2", "epochs=3"]) == 2
    assert "sweep resume: seed=2 epochs=3: a sweep is resumed as it was started" in capsys.readouterr().err
    assert main(["sweep", "resume", str(place.sweep), "metric=robust"]) == 2
    assert "metric=robust: no such metric" in capsys.readouterr().err
    assert place.ran == [0, 1]
    assert main(["sweep", "resume", str(place.sweep), "metric=accuracy"]) == 0
    assert place.ran == [0, 1]
    assert "best  0.9000" in capsys.readouterr().out
