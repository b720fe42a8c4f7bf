"""A finished run, run again: equal bits, or what differs; and records that cannot be run again."""

import json
import shutil

import pytest

from kdrobust.cli import main
from kdrobust.reproduce import arrays, compare, leaves, table, weights_hash
from tests.stages.conftest import IMPLIED

SHORT = [
    "epochs=1", "data.limit_train=64", "data.limit_validation=20", "threads=1", "attack.steps=1",
    "callbacks.robust_validation.attack.steps=1",
]  # fmt: skip
TINY = [*SHORT, *IMPLIED, "model@student=mlp", "+average=ema"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    place = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["distill", *TINY, "run.folder=run"]) == 0
    return place / "run"


@pytest.fixture
def run(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # its teacher too, which lies in outputs/
    shutil.copytree(done.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def change(path, **keys):
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_the_same_machine_makes_the_same_bits(run, capsys):
    assert main(["reproduce", "run/result.json", "--anyway"]) == 0
    out = capsys.readouterr().out
    assert "≠" not in out
    assert "= weights" in out
    assert weights_hash(run / "best.ckpt") == weights_hash(run.with_name("run-again") / "best.ckpt")
    assert json.loads((run / "status.json").read_text())["status"] == "completed"


def test_from_another_folder_the_one_it_was_started_in_is_named(run, monkeypatch, capsys):
    """Before: "the run learnt from it, and it is gone; put it back"."""
    (run.parent / "elsewhere").mkdir()
    monkeypatch.chdir(run.parent / "elsewhere")
    assert main(["reproduce", str(run), "--anyway"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("outputs/teacher/")
    assert error.endswith(f"relative to {run.parent}, where the run was started: go there first: cd {run.parent}")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A teacher, its stored outputs and its evaluation."""
    place = tmp_path_factory.mktemp("others")
    data = ["data.limit_train=64", "data.limit_validation=20", "threads=1"]
    given = "checkpoint=teacher/best.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["teacher", *SHORT, "model@teacher=mlp", "run.folder=teacher"]) == 0
        assert main(["outputs", *data, f"teacher.{given}", "run.folder=outputs"]) == 0
        assert main(["evaluate", "threads=1", given, "evaluation.num_samples=20", "run.folder=evaluate"]) == 0
    return place


@pytest.mark.parametrize(
    ("stage", "shown"), [("teacher", "= weights"), ("outputs", "= outputs.safetensors"), ("evaluate", "= samples.npz")]
)
def test_every_stage_that_runs_alone_comes_to_the_same_again(others, monkeypatch, capsys, stage, shown):
    monkeypatch.chdir(others)
    assert main(["reproduce", stage, "--anyway"]) == 0
    out = capsys.readouterr().out
    assert "≠" not in out
    assert shown in out


def test_samples_are_compared_file_by_file(tmp_path):
    for name, content in (("a/samples.npz", b"1"), ("b/samples.npz", b"2"), ("b/x/samples_0.1.npz", b"3")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    rows = arrays("evaluate", tmp_path / "a", tmp_path / "b")
    assert [name for name, _, _ in rows] == ["samples.npz", "x/samples_0.1.npz"]
    assert rows[0][1] != rows[0][2]
    assert rows[1][1] is None
    assert arrays("evaluate", tmp_path / "a", tmp_path / "a") == [("samples.npz", rows[0][1], rows[0][1])]
    assert arrays("teacher", tmp_path / "a", tmp_path / "b") == []


def test_what_differs_is_shown_and_is_1(run, capsys):
    record = json.loads((run / "result.json").read_text())
    change(run / "result.json", validation={**record["validation"], "accuracy": 2.0})
    assert main(["reproduce", "run", "--anyway", "--out=new"]) == 1
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("≠")] == [
        ["≠", "validation.accuracy", "2.0"]
    ]
    assert (run.parent / "new" / "result.json").exists()


@pytest.mark.parametrize(
    ("spoil", "typed", "words"),
    [
        (lambda run: change(run / "manifest.json", versions={"torch": "1.0"}), [], ["torch 1.0", "--anyway"]),
        (lambda run: change(run / "result.json", stage="pipeline"), ["--anyway"], ["stage pipeline", "teacher, distill"]),
        (lambda run: change(run / "result.json", config_hash="0"), ["--anyway"], ["config_resolved.yaml", "has changed"]),
        (lambda run: (run / "result.json").write_text("{"), [], ["result.json", "damaged"]),
        (lambda run: (run / "manifest.json").unlink(), [], ["manifest.json", "no such file"]),
        (lambda run: (run / "config_resolved.yaml").unlink(), [], ["config_resolved.yaml", "no such file"]),
        (lambda run: (run / "config_resolved.yaml").write_text("a: ["), [], ["config_resolved.yaml", "damaged"]),
        (lambda run: change(run / "result.json", teacher={"checkpoint": "gone.ckpt", "sha256": "0"}), ["--anyway"], ["gone.ckpt", "put it back"]),
        (lambda run: change(run / "result.json", teacher={"checkpoint": "run/run.log", "sha256": "0"}), ["--anyway"], ["run.log", "not the file of the record"]),
        (lambda run: None, ["--anyway", "--out=run"], ["--out run", "exists already"]),
        (lambda run: None, ["--fast"], ["--fast", "--anyway"]),
        (lambda run: None, ["--out"], ["--out", "a value is missing"]),
        (lambda run: None, ["run"], ["expected kdrobust reproduce"]),
    ],
)  # fmt: skip
def test_what_cannot_be_run_again_is_one_line(run, capsys, spoil, typed, words):
    spoil(run)
    before = sorted(run.parent.iterdir())
    assert main(["reproduce", "run/result.json", *typed]) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert [word for word in words if word not in error] == [], error
    assert sorted(run.parent.iterdir()) == before


def test_a_record_trusts_nobody(run, capsys):
    from omegaconf import OmegaConf

    from kdrobust.config import config_hash

    cfg = OmegaConf.load(run / "config_resolved.yaml")
    cfg.trusted_modules = ["mine"]
    OmegaConf.save(cfg, run / "config_resolved.yaml")
    change(run / "result.json", config_hash=config_hash(cfg))
    assert main(["reproduce", "run", "--anyway"]) == 2
    assert "--trust mine" in capsys.readouterr().err


def test_figures_are_compared_and_places_are_not():
    one = {"a": {"b": [1.0, 2.0]}, "seconds": 3, "checkpoint": {"path": "x/best.ckpt", "sha256": "0"}}
    two = {"a": {"b": [1.0, 2.5]}, "seconds": 4, "checkpoint": {"path": "y/best.ckpt", "sha256": "1"}, "c": 1}
    rows = compare(one, two)
    assert rows == [("a.b[0]", 1.0, 1.0), ("a.b[1]", 2.0, 2.5), ("c", None, 1)]
    assert table(rows) == "≠ a.b[1]  2.0  now 2.5\n≠ c       None  now 1"
    assert dict(leaves({"teacher": {"path": "x.npz", "sha256": "0"}})) == {"teacher.sha256": "0"}
