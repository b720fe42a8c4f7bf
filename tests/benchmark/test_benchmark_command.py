"""`kdrobust benchmark`: the command, and the tiny suite whole."""

import json

import pytest

from kdrobust.benchmark import command, work
from kdrobust.benchmark.records import read_records, records_path, write_records
from kdrobust.cli import main
from kdrobust.models import file_hash
from tests.benchmark.suites import record, records, suite


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The suite `tiny`, run whole: what CI asserts of it is sanity, not rankings."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["benchmark", "suite=tiny"]) == 0
    return folder


def test_trained_to_be_robust_is_more_robust(tiny):
    found = {entry["method"]: entry for entry in read_records(tiny / "benchmarks" / "results" / "tiny" / "main.json")}
    assert set(found) == {"pgd_at", "standard", "rslad", "dtkd"}
    for name in ("pgd_at", "rslad", "dtkd"):
        assert found[name]["robust"] > found["standard"]["robust"], name
    assert found["pgd_at"]["teachers"] == {}
    teacher = found["rslad"]["teachers"]["teacher"]
    assert found["dtkd"]["teachers"]["teacher"]["sha256"] == teacher["sha256"]
    kept = list((tiny / "benchmarks" / "results" / "tiny" / "teachers").glob("*/best.ckpt"))
    assert [file_hash(path) for path in kept] == [teacher["sha256"]]
    for entry in found.values():
        assert entry["robust"] <= min(entry["attacks"].values()) <= entry["clean"] <= entry["n"] == 200
    assert teacher["kept"] <= min(teacher["robust"], found["rslad"]["robust"])
    assert (found["standard"]["passes"], found["pgd_at"]["passes"]) == (8, 88)


def test_what_is_recorded_is_not_done_again(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(work, "do", lambda job, root: pytest.fail(job.label))
    assert main(["benchmark", "suite=tiny"]) == 0
    assert "4 jobs, 4 recorded" in capsys.readouterr().out
    assert main(["benchmark", "suite=tiny", "plan"]) == 0
    assert "main: 4 jobs, 4 recorded; nothing left to do" in capsys.readouterr().out


def test_a_lost_record_is_made_again_from_finished_runs(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    path = tiny / "benchmarks" / "results" / "tiny" / "main.json"
    before = read_records(path)
    path.unlink()
    monkeypatch.setattr("kdrobust.stages.distill.run", lambda cfg, folder: pytest.fail("trained again"))
    assert main(["benchmark", "suite=tiny"]) == 0
    # how much processor time a training took is known only to the process that did it
    assert all(entry["seconds"].pop("training_cpu") > 0 for entry in before)
    assert read_records(path) == before


@pytest.fixture
def quick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "do", lambda job, root: record(job))
    monkeypatch.setattr(work, "check_job", lambda job, root: None)
    return tmp_path / "benchmarks" / "results" / "tiny" / "main.json"


def test_pieces_add_up(quick, monkeypatch, capsys):
    assert main(["benchmark", "suite=tiny", "methods=rslad,trades", "blocks=main"]) == 0
    assert [entry["method"] for entry in read_records(quick)] == ["rslad", "trades"]
    assert main(["benchmark", "suite=tiny", "plan"]) == 0
    told = capsys.readouterr().out
    assert "4 jobs, 1 recorded; about 45 s to go" in told
    assert "holds no records" not in told
    assert main(["benchmark", "suite=tiny", "plan", "results=elsewhere"]) == 0
    told = capsys.readouterr().out
    assert "\n  elsewhere: holds no records of it; results= names the folder" in told
    assert "4 jobs, 0 recorded; no estimate" in told
    monkeypatch.setattr(command, "time", type("Clock", (), {"monotonic": staticmethod(lambda: -1e9)}))
    assert main(["benchmark", "suite=tiny", "limit_minutes=1"]) == 0
    assert "3 jobs left; the same command goes on with them" in capsys.readouterr().out
    monkeypatch.undo()


def test_an_evaluation_of_its_own_is_not_guessed_from_others(tmp_path):
    made = suite()
    for name in ("main", "ladder"):
        told = records(made, name)[:-1]
        write_records(records_path(tmp_path, "trial", name), made, made.blocks[name], told)
        lines = command.told_plan(made, list(made.blocks.values()), tmp_path).splitlines()
        known = [line for line in lines if "to go" in line]
        assert [line.split(":")[0].strip() for line in known] == {
            "main": ["main", "cost", "tuned"],
            "ladder": ["main", "cost", "ladder", "tuned"],
        }[name]
        # a search of three trials, and three seeds, of 15 s each
        assert "  tuned: 3 jobs, 0 recorded; about 1 min 30 s to go, teachers that are missing not counted" in lines


def test_a_failed_job_is_told_and_the_others_kept(quick, monkeypatch, capsys):
    from kdrobust.errors import DataError

    def partly(job, root):
        if job.method == "dtkd":
            raise DataError("digits: gone")
        return record(job)

    monkeypatch.setattr(work, "do", partly)
    assert main(["benchmark", "suite=tiny"]) == 1
    told = capsys.readouterr()
    assert told.err == "1 job failed:\n  main: dtkd cnn_3k seed 0: digits: gone\n"
    assert len(json.loads(quick.read_text())["records"]) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "benchmark: which suite?"),
        (["suite=tin"], "suite=tin: no such suite; did you mean tiny?"),
        (["suite=tiny", "block=main"], "benchmark block=main: no such argument; did you mean blocks?"),
        (["suite=tiny", "blocks=min"], "blocks=min: no block of suite tiny; did you mean main?"),
        (["suite=tiny", "methods=rslat"], "methods=rslat: no method of suite tiny, nor of conf/method"),
        (["suite=tiny", "n_jobs=0"], "benchmark n_jobs=0: expected an integer >= 1"),
        (["suite=tiny", "limit_minutes=x"], "benchmark limit_minutes=x: expected a number > 0"),
        (["suite="], "benchmark suite=: a value is missing"),
    ],
)
def test_mistakes_get_one_line(quick, capsys, arguments, told):
    assert main(["benchmark", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not quick.exists()


def test_a_job_that_cannot_be_composed_stops_before_any_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "suite").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "mine.yaml").write_text(
        "# Mine\nepochs: 1\nsettings: [optimizer.lt=1]\nbaseline: pgd_at\nmethods: {pgd_at: []}\n"
        'students: {a: []}\nblocks: {main: {question: "Why?"}}\n'
    )
    monkeypatch.setattr(work, "do", lambda job, root: pytest.fail(job.label))
    assert main(["benchmark", "suite=mine"]) == 2
    told = capsys.readouterr().err
    assert "main: pgd_at a seed 0: optimizer.lt" in told
    assert "did you mean optimizer.lr" in told
    assert not (tmp_path / "outputs").exists()


def test_help(capsys):
    assert main(["benchmark", "--help"]) == 0
    assert "kdrobust benchmark suite=NAME" in capsys.readouterr().out
