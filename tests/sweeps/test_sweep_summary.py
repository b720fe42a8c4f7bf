import csv
import io
import json
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from kdrobust.cli import main
from kdrobust.errors import UsageError
from kdrobust.sweeps.figures import accuracies, teacher_seconds
from kdrobust.sweeps.progress import duration, remaining, report, told
from kdrobust.sweeps.record import Job, expect_jobs, last_line, read_job, read_jobs, write_job, write_sweep
from kdrobust.sweeps.summary import best, default_metric, importance, settings, summary_csv, swept_keys, values_of
from kdrobust.sweeps.table import as_csv, refresh, rows
from kdrobust.tracking.owner import me


def job(number, value, *, status="completed", **given):
    lines = ["epochs=1", *(f"{key}={text}" for key, text in given.items())]
    figures = {"robust_accuracy": value, "seconds": 2.0} if status == "completed" else {}
    return Job(job=number, status=status, overrides=lines, seed=int(given.get("seed", 0)), **figures)


def grid(values):
    """a = 0, 1, 2; b = 0, 1; seeds 0, 1: the last varies fastest."""
    places = [(a, b, seed) for a in range(3) for b in range(2) for seed in range(2)]
    return [
        job(n, float(v), a=a, b=b, seed=seed) for n, ((a, b, seed), v) in enumerate(zip(places, values, strict=True))
    ]


def test_importance_is_the_share_of_variance_between_the_means():
    values = np.random.default_rng(0).normal(size=12)
    cube = values.reshape(3, 2, 2)
    # another way to the same number: in a full grid η² is the variance of the means over the variance of all
    expected = {
        "a": cube.mean(axis=(1, 2)).var(),
        "b": cube.mean(axis=(0, 2)).var(),
    }
    found = importance(grid(values), "robust_accuracy")
    assert found == pytest.approx({key: variance / values.var() for key, variance in expected.items()})
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) < 1


def test_a_key_that_decides_everything_has_one_and_equal_jobs_have_none():
    decided = importance(grid(np.repeat([1.0, 2.0, 3.0], 4)), "robust_accuracy")
    assert decided == pytest.approx({"a": 1.0, "b": 0.0})
    assert set(importance(grid(np.ones(12)), "robust_accuracy").values()) == {None}
    assert importance(grid(np.ones(12))[:1], "robust_accuracy") == {}


def test_unfinished_jobs_do_not_count():
    jobs = [job(0, 0.2, a=0), job(1, 0.4, a=1), job(2, None, a=2, status="failed")]
    assert importance(jobs, "robust_accuracy") == pytest.approx({"a": 1.0})
    assert [group.mean("robust_accuracy") for group in settings(jobs)] == [0.2, 0.4, None]


def test_seeds_are_one_setting_and_ties_lie_within_two_standard_errors():
    means = {"x": [0.50, 0.54], "y": [0.47, 0.51], "z": [0.40, 0.42]}
    jobs = [job(2 * i + s, v, m=key, seed=s) for i, (key, vs) in enumerate(means.items()) for s, v in enumerate(vs)]
    groups = settings(jobs)
    assert [group.values for group in groups] == [{"m": "x"}, {"m": "y"}, {"m": "z"}]
    assert groups[0].std("robust_accuracy") == pytest.approx(np.std([0.50, 0.54], ddof=1))
    leading, ties = best(groups, "robust_accuracy")
    # 2 √(0.0008 / 2 + 0.0008 / 2) = 0.0566: a gap of 0.03 ties, one of 0.11 does not
    assert [group.values["m"] for group in leading] == ["x"]
    assert [group.values["m"] for group in ties] == ["y"]
    table = list(csv.DictReader(io.StringIO(summary_csv(jobs))))
    assert [row["place"] for row in table] == ["best", "tie", ""]
    assert [row["n"] for row in table] == ["2"] * 3
    assert float(table[1]["robust_accuracy_mean"]) == pytest.approx(0.49)
    assert table[2]["jobs"] == "4 5"


def test_one_seed_ties_only_where_it_is_equal():
    groups = settings([job(0, 0.5, a=0), job(1, 0.5, a=1), job(2, 0.4999, a=2)])
    leading, ties = best(groups, "robust_accuracy")
    assert [group.values["a"] for group in leading] == ["0", "1"]
    assert ties == []
    assert best([], "robust_accuracy") == ([], [])


def test_keys_are_those_that_differ_as_typed():
    jobs = [
        Job(job=0, overrides=["+model@student=a", "x=[1,2]"]),
        Job(job=1, overrides=["+model@student=b", "x=[1,2]"]),
    ]
    assert swept_keys(jobs) == ["model@student"]
    assert values_of(jobs[0]) == {"model@student": "a", "x": "[1,2]"}
    assert swept_keys(jobs[:1]) == []


def test_the_table_has_every_job_also_failed_and_cut_ones():
    jobs = [
        job(0, 0.25, a="4/255", seed=3),
        Job(job=1, status="failed", overrides=["a=8/255", "seed=3"], error="x, y: NaN"),
        Job(job=2, status="running", overrides=["a=1", "seed=3"], owner={**me(), "born": 1}),
        Job(job=3, status="running", overrides=["a=2", "seed=3"], owner=me()),
    ]  # fmt: skip
    table = list(csv.DictReader(io.StringIO(as_csv(rows(jobs)))))
    assert [row["status"] for row in table] == ["completed", "failed", "cut", "running"]
    assert [row["a"] for row in table] == ["4/255", "8/255", "1", "2"]
    assert [row["seed"] for row in table] == ["3"] * 4
    assert table[0]["robust_accuracy"] == "0.25"
    assert table[1]["error"] == "x, y: NaN"
    assert as_csv([]) == ""


def test_time_left_and_how_it_is_told():
    jobs = [job(0, 0.1, a=0), Job(job=1), Job(job=2), Job(job=3), Job(job=4, status="failed")]
    assert remaining(jobs, 1) == 6.0
    assert remaining(jobs, 2) == 3.0
    assert remaining(jobs[1:], 1) is None
    # a job that trained the teacher of all took longer than its siblings will
    assert remaining([replace(jobs[0], seconds=12.0, waited=10.0), *jobs[1:]], 1) == 6.0


def test_what_a_job_spent_on_a_shared_teacher(tmp_path):
    place, run = tmp_path / "teacher", tmp_path / "run"
    for folder in (place, run):
        folder.mkdir()
    minute = "2026-01-01T00:{:02d}:00+00:00".format

    def spent(started, ended):
        return teacher_seconds(run, minute(started), minute(ended))

    assert spent(0, 9) == 0.0
    (run / "result.json").write_text(json.dumps({"teacher": {"checkpoint": str(place / "best.ckpt")}}))
    assert spent(0, 9) == 0.0, "nobody knows when"
    (place / "status.json").write_text(json.dumps({"started": minute(2), "ended": minute(5)}))
    assert spent(0, 9) == 180.0, "trained it"
    assert spent(4, 9) == 60.0, "waited for it"
    assert spent(6, 9) == spent(0, 1) == 0.0
    (run / "result.json").write_text(json.dumps({"teacher": {"natural": {"checkpoint": str(place / "best.ckpt")}}}))
    assert spent(0, 9) == 180.0, "one of several"


def test_a_job_that_differs_in_nothing_has_no_empty_brackets(tmp_path):
    (tmp_path / "jobs").mkdir()
    alone = job(0, 0.5)
    assert told(tmp_path, alone, [alone]).startswith("job 0: robust accuracy 0.5000 in 2 s; 1 of 1 done")
    assert [duration(s) for s in (4.4, 61, 7265)] == ["4 s", "1 min 1 s", "2 h 1 min"]


def test_a_report_by_a_metric_of_choice(tmp_path):
    jobs = [job(0, 0.5, a=0), job(1, 0.4, a=1), Job(job=2, status="failed", overrides=["a=2"], error="no")]
    jobs[0].accuracy, jobs[1].accuracy = 0.6, 0.7
    assert default_metric(jobs) == "robust_accuracy"
    text = report(tmp_path, jobs)
    assert "3 jobs: 2 completed, 1 failed" in text
    assert "best  0.5000" in text
    assert "job 2 (a=2): no" in text
    assert "best  0.7000" in report(tmp_path, jobs, "accuracy")
    with pytest.raises(UsageError, match="robust_accuracy"):
        report(tmp_path, jobs, "speed")


def test_equal_seeds_do_not_tell_a_spread(tmp_path):
    jobs = [job(2 * a + seed, 0.5 + 0.1 * a * seed, a=a, seed=seed) for a in (0, 1) for seed in (0, 1)]
    told = report(tmp_path, jobs)
    assert "0.5500 ± 0.071" in told
    assert re.search(r"tie +0\.5000 +2 ", told)
    assert "  seed" not in told


def test_figures_of_every_kind_of_result():
    evaluation = {"clean": {"accuracy": 0.9}, "worst_case": {"accuracy": 0.4}}
    assert accuracies({"validation": {"accuracy": 0.8}}) == (0.8, None)
    assert accuracies({"evaluation": evaluation}) == (0.9, 0.4)
    other = {"clean": {"accuracy": 0.7}, "worst_case": {"accuracy": 0.2}}
    models = [{"results": []}, {"results": [{"evaluation": evaluation}, {"evaluation": other}]}]
    assert accuracies({"models": models}) == pytest.approx((0.8, 0.3))
    assert accuracies({}) == (None, None)


def test_records_survive_and_an_earlier_longer_grid_is_left_out(tmp_path):
    expect_jobs(tmp_path, [["a=0"], ["a=1"], ["a=2"]], 0, 1)
    assert [found.status for found in read_jobs(tmp_path)] == ["pending"] * 3
    done = Job(job=0, status="completed", overrides=["a=0"], value=0.5, owner=me())
    write_job(tmp_path, done)
    expect_jobs(tmp_path, [["a=0"], ["a=7"]], 0, 2)
    assert read_jobs(tmp_path) == [done, Job(job=1, overrides=["a=7"], attempt=2)]
    (tmp_path / "jobs" / "0.json").write_text("{ half")
    assert read_job(tmp_path, 0) is None
    assert [found.job for found in read_jobs(tmp_path)] == [1]
    write_sweep(tmp_path, jobs=3)
    assert [found.job for found in read_jobs(tmp_path)] == [1, 2]


def test_an_error_s_last_line():
    assert last_line(ValueError("a\nb\n"), plain=False) == "ValueError: b"
    assert last_line(ValueError("a\nb"), plain=True) == "b"
    assert last_line(KeyError(), plain=True) == "KeyError"


def test_the_status_of_a_search_is_its_trials(tmp_path, capsys):
    write_sweep(tmp_path, stage="distill", arguments=[])
    (tmp_path / "trials.csv").write_text(
        "trial,state,feasible,method.alpha,evaluation.worst_case.accuracy,jobs,error\n"
        "0,complete,true,0.123456789,0.5,0,\n1,fail,,0.7,,1,no memory\n2,complete,true,0.9,0.25,2,\n"
    )
    (tmp_path / "pareto.csv").write_text("trial,state\n0,complete\n")
    assert main(["sweep", "status", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "3 trials: 2 complete, 1 fail" in told
    assert [row.split() for row in told.splitlines() if row.startswith("front")] == [
        ["front", "0", "complete", "true", "0.1235", "0.5", "0"]
    ]
    assert "trial 1: no memory" in told
    assert main(["sweep", "status", str(tmp_path), "metric=accuracy"]) == 2
    assert "is a search, whose metrics are its own" in capsys.readouterr().err


def test_parquet_only_where_pyarrow_is(tmp_path, monkeypatch):
    write_job(tmp_path, job(0, 0.5, a=0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refresh(tmp_path)
    assert not (tmp_path / "sweep.parquet").exists()
    pyarrow, parquet = types.ModuleType("pyarrow"), types.ModuleType("pyarrow.parquet")
    pyarrow.Table = types.SimpleNamespace(from_pylist=lambda table: table)
    parquet.write_table = lambda table, buffer: buffer.write(str(table[0]["robust_accuracy"]).encode())
    pyarrow.parquet = parquet
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: pyarrow)
    refresh(tmp_path)
    assert (tmp_path / "sweep.parquet").read_text() == "0.5"


def test_a_seed_is_a_number_before_and_after_its_job_began():
    from kdrobust.sweeps.record import Job
    from kdrobust.sweeps.table import rows

    begun, waiting = Job(job=0, overrides=["seed=0"], seed=0), Job(job=1, overrides=["seed=1"])
    assert [row["seed"] for row in rows([begun, waiting])] == [0, 1]
