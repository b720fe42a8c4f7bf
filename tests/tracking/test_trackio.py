"""trackio with a stand-in that keeps what it is told, and the real one where it is installed."""

import importlib
import importlib.machinery
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from tests.stages.conftest import Workplace

NAME = "kdrobust.tracking.trackio"
JOB = [
    "distill", "method=pgd_at", "model@student=mlp", "epochs=2", "data.limit_train=64", "data.limit_validation=40",
    "attack.steps=1", "callbacks.robust_validation.attack.steps=1", "threads=1", "logger=trackio",
]  # fmt: skip


@pytest.fixture
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "mine"))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield monkeypatch
    sys.modules.pop(NAME, None)


@pytest.fixture
def runs(clean):
    """Every run's life, as the stand-in was told it."""
    told, module = [], ModuleType("trackio")
    module.__spec__ = importlib.machinery.ModuleSpec("trackio", None)

    def init(**options):
        assert all(run["finished"] for run in told), "one run at a time in a process"
        print("* a line that nobody asked for")
        told.append({"options": options, "logged": [], "finished": False})
        return SimpleNamespace(log=lambda metrics, step=None: told[-1]["logged"].append((step, metrics)))

    def finish():
        told[-1]["finished"] = True

    module.init, module.finish, module.Image = init, finish, lambda path: ("image", path.name)
    clean.setitem(sys.modules, "trackio", module)
    return told


def test_absent_it_is_told_in_one_line_before_anything_runs(clean, tmp_path, capsys):
    find = importlib.util.find_spec
    clean.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "trackio" else find(name, *rest))
    Workplace(tmp_path).run(*JOB, code=2)
    err = capsys.readouterr().err.strip()
    assert "logger.trackio" in err
    assert err.endswith("trackio is not installed; pip install 'kdrobust[trackio]'")
    assert "\n" not in err
    assert not list(tmp_path.rglob("metrics.csv"))


def test_a_sweep_has_a_run_a_job_with_config_metrics_and_result(runs, tmp_path, capsys):
    place = Workplace(tmp_path)
    place.run(*JOB, "-m", "seed=0,1", "hydra.sweep.dir=outputs/sweeps/two")
    said = capsys.readouterr().out
    assert [run["finished"] for run in runs] == [True, True]
    options = [run["options"] for run in runs]
    assert {each["group"] for each in options} == {"two"}
    assert len({each["name"] for each in options}) == 2, "jobs of one name do not become one run"
    assert [each["config"]["seed"] for each in options] == [0, 1]
    assert options[0]["config"]["optimizer"]["target"].startswith("torch.optim.")
    assert "nobody asked" not in said
    for number, run in enumerate(runs):
        result = json.loads((tmp_path / f"outputs/sweeps/two/{number}/result.json").read_text())
        epochs = [metrics["val/robust_accuracy"] for _, metrics in run["logged"] if "val/robust_accuracy" in metrics]
        assert len(epochs) == 2
        final = run["logged"][-1][1]
        assert final["result/validation/robust_accuracy"] == result["validation"]["robust_accuracy"]
        assert final["result/training"] == ("image", "training.png")


def test_a_resumed_run_goes_on_in_its_own(runs, tmp_path):
    logger = importlib.import_module(NAME).TrackioRun
    one, again, other = (
        logger(project="p", home=str(tmp_path), folder=str(tmp_path / name), name="n") for name in "aab"
    )
    assert one.name == again.name != other.name
    assert one.home == os.environ["TRACKIO_DIR"] == str(tmp_path / "mine"), "the variable wins"
    one.log_metrics({"a": 1.0}, 0)
    one.close(failed=True)
    assert runs == [], "nothing was opened"
    one.begin({"_target_": "x", "node": {"_partial_": True}})
    assert runs[0]["options"]["config"] == {"target": "x", "node": {"partial": True}}
    assert runs[0]["options"]["resume"] == "allow"
    one.close(failed=False)
    one.close(failed=False)
    assert runs[0]["finished"]


def test_the_real_one_keeps_both_jobs(clean, tmp_path):
    pytest.importorskip("trackio")
    Workplace(tmp_path).run(*JOB, "-m", "seed=0,1", "hydra.sweep.dir=outputs/sweeps/two")
    import trackio

    assert len(list(trackio.Api().runs("kdrobust"))) == 2
