from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdrobust.htmlreport import collect
from kdrobust.htmlreport import collect as collect_function
from tests.htmlreport.runs import evaluated, evaluation, png, result, sha, sweep, training, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sweep(tmp_path)


def by_folder(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {run["folder"]: run for run in document["runs"]}


def test_a_sweep_with_its_evaluation_and_its_teacher(folder: Path) -> None:
    document = collect([folder])
    runs = by_folder(document)
    assert [run["folder"] for run in document["runs"]][:9] == [*map(str, range(8)), "evaluation"]
    assert len(runs) == 10
    assert document["swept"] == ["method.alpha", "method.temperature", "seed"]
    first = runs["0"]
    assert (first["clean"]["value"], first["clean"]["n"]) == (0.82, 100)
    for end in (first["clean"]["low"], first["clean"]["high"]):
        # what Wilson's ends are defined by: the shares from which 0.82 lies 1.96 of their standard errors away
        assert abs(0.82 - end) / (end * (1 - end) / 100) ** 0.5 == pytest.approx(1.959964, abs=1e-3)
    assert first["settings"] == {"method.alpha": "0.1", "method.temperature": "1", "seed": "0"}
    assert (first["method"], first["model"], first["data"], first["threat"]) == (
        "rslad",
        "small_cnn",
        "digits",
        "ℓ∞, ε = 8/255",
    )
    assert first["command"] == "kdrobust distill method.alpha=0.1 method.temperature=1 seed=0"
    assert first["sweep_command"].endswith("-m method.alpha=0.1,0.5 seed=0,1")
    assert first["commit"] == "aaaaaaaaaaaa with local changes"
    teacher = document["runs"][-1]
    assert teacher["teacher"]
    assert teacher["elsewhere"]
    assert teacher["setting"] == first["setting"]
    json.dumps(document, allow_nan=False)


def test_an_evaluation_knows_who_trained_its_model_and_flags_it(folder: Path) -> None:
    runs = by_folder(collect([folder]))
    found = runs["evaluation"]
    assert found["split"] == "test"
    assert (found["method"], found["model"], found["settings"]["method.alpha"]) == ("rslad", "small_cnn", "0.1")
    assert found["robust"] == {"value": 0.4, "low": 0.3, "high": 0.5, "n": 100}
    assert found["attack"] == "worst of pgd20, fgsm"
    assert found["flags"] == ["S3: an unbounded attack leaves 40 % standing"]
    assert found["warnings"] == ["S4 curve: slow"]
    assert [curve["attack"] for curve in found["curves"]] == ["fmn", "trust check S4, 10 steps"]
    assert list(found["classes"]["sets"]) == ["clean", "pgd20", "fgsm", "worst case"]
    assert runs["0"]["flags"] == ["S3: an unbounded attack leaves 40 % standing (evaluation of this model)"]
    assert not runs["1"]["flags"]


def test_metrics_keep_shares_and_losses_and_no_nan(folder: Path) -> None:
    history = by_folder(collect([folder]))["0"]["history"]
    assert set(history) == {"epoch", "train/loss", "train/robust_accuracy", "val/accuracy", "val/robust_accuracy"}
    assert history["train/loss"] == [2.0, 1.5, 1.0, 0.5, None]
    assert history["val/accuracy"][-1] is None
    assert history["train/robust_accuracy"][-1] is None


def test_overfitting_marks_the_epoch_as_files_count_it(folder: Path) -> None:
    runs = by_folder(collect([folder]))
    (mark,) = runs["3"]["marks"]
    assert (mark["epoch"], mark["kind"], mark["what"]) == (1, "robust overfitting", "best before")
    assert not runs["2"]["marks"]


def test_configs_are_shared_and_secrets_masked(folder: Path) -> None:
    document = collect([folder])
    evaluation_run = by_folder(document)["evaluation"]
    assert evaluation_run["config"] != {} or "seed" in document["config"]
    text = json.dumps(document)
    assert "0123456789" not in text
    assert "•••" in json.dumps(document, ensure_ascii=False)
    (folder / "evaluation" / "config_resolved.yaml").unlink()
    document = collect([folder])
    assert document["config"]["logger.api_key"] == "•••"
    assert "method.alpha" in by_folder(document)["0"]["config"]
    assert not by_folder(document)["evaluation"]["configured"]


def test_a_pipeline_alone_and_beside_its_parts(tmp_path: Path) -> None:
    origin = {"path": "x/best.ckpt", "sha256": sha("x/best.ckpt")}
    part = result("evaluate", "student seed 0", checkpoint=origin, evaluation=evaluation())
    write(tmp_path / "p", "result.json", result("pipeline", "all", models=[{"name": "student", "results": [part]}]))
    (alone,) = collect([tmp_path])["runs"]
    assert (alone["name"], alone["stage"], alone["folder"]) == ("student seed 0", "evaluate", "p")
    write(tmp_path / "p" / "evaluation", "result.json", part)
    (beside,) = collect([tmp_path])["runs"]
    assert beside["folder"] == "p/evaluation"


def test_several_models_and_radii_in_one_evaluation(tmp_path: Path) -> None:
    models = [
        {"name": f"m (ε = {eps})", "results": [{"evaluation": evaluation() | {"threat": {"norm": "l2", "eps": eps}}}]}
        for eps in (0.5, 1.0)
    ]
    write(tmp_path, "result.json", result("evaluate", "digits", evaluation=evaluation(), models=models))
    runs = collect([tmp_path])["runs"]
    assert [(run["name"], run["threat"]) for run in runs] == [
        ("m (ε = 0.5)", "ℓ2, ε = 0.5"),
        ("m (ε = 1.0)", "ℓ2, ε = 1"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "not a mapping"),
        ('{"schema": 1}', "does not fit its schema"),
        (json.dumps(result("evaluate", "x", evaluation={"version": 1})), "does not fit its schema"),
        (json.dumps(result("evaluate", "x", models=[{"results": [{"evaluation": {}}]}])), "does not fit its schema"),
    ],
)
def test_a_damaged_result_is_told_and_the_rest_stands(folder: Path, content: str, said: str) -> None:
    write(folder / "broken", "result.json", content)
    write(folder / "broken", "status.json", {"status": "completed"})
    document = collect([folder])
    assert len(document["problems"]) == 1
    assert said in document["problems"][0]
    assert len(document["runs"]) == 10


def test_files_of_another_shape_cost_nothing(folder: Path) -> None:
    write(folder / "0", "manifest.json", {"git": "none", "command": 3})
    write(folder / "0", "config_resolved.yaml", {"run": "here", "data": [1], "seed": "x"})
    write(folder / "0", ".hydra/hydra.yaml", {"hydra": ["x"]})
    write(folder / "0", "metrics.csv", "epoch\n1,2,3\n")
    document = collect([folder])
    assert (len(document["runs"]), document["problems"]) == (10, [])
    assert by_folder(document)["0"]["commit"] == ""


def test_an_evaluation_has_its_model_s_seed(folder: Path) -> None:
    evaluated(folder / "again", checkpoint=str(folder / "1" / "best.ckpt"))
    assert by_folder(collect([folder]))["again"]["seed"] == 1


def test_a_run_that_goes_on_or_failed_has_its_row(tmp_path: Path) -> None:
    training(tmp_path / "a")
    (tmp_path / "a" / "result.json").unlink()
    write(tmp_path / "a", "status.json", {"status": "failed", "error": "no memory"})
    (run,) = collect([tmp_path])["runs"]
    assert (run["status"], run["error"], run["clean"], run["stage"]) == ("failed", "no memory", None, "distill")
    assert run["history"]["epoch"] == [0, 1, 2, 3, 4]


def test_pictures_come_only_from_the_run_folder_and_only_as_png(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    for name, picture in {"a": "../secret.png", "b": str(tmp_path / "secret.png"), "c": "examples.png"}.items():
        folder = evaluated(tmp_path / "runs" / name, checkpoint=name)
        found = json.loads((folder / "result.json").read_text())
        found["files"]["examples"] = picture
        write(folder, "result.json", found)
    (tmp_path / "runs" / "c" / "examples.png").write_bytes(b"<svg onload=alert(1)>")
    document = collect([tmp_path / "runs"])
    assert document["images"] == []
    assert document["images_left"] == 1


def test_the_same_picture_is_embedded_once_and_too_many_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        evaluated(tmp_path / name, checkpoint=name)
    (tmp_path / "c" / "examples.png").write_bytes(png(7))
    document = collect([tmp_path])
    assert [run["pictures"] for run in document["runs"]] == [[0], [0], [1]]
    monkeypatch.setattr(sys.modules[collect_function.__module__], "MAX_IMAGES", 1)
    document = collect([tmp_path])
    assert (len(document["images"]), document["images_left"]) == (1, 1)


def test_class_names_of_a_config(tmp_path: Path) -> None:
    config = {"data": {"source": {"class_names": ["cat", "<b>dog"]}}}
    evaluated(tmp_path, checkpoint="x", config=config)
    (run,) = collect([tmp_path])["runs"]
    assert run["classes"]["labels"] == ["cat", "<b>dog"]
    written = json.loads((tmp_path / "result.json").read_text())
    written["data"]["class_names"] = ["<i>owl", "eel"]
    (tmp_path / "result.json").write_text(json.dumps(written))
    assert collect([tmp_path])["runs"][0]["classes"]["labels"] == ["<i>owl", "eel"], "a result's own names come first"


def test_hidden_folders_and_links_are_not_entered(tmp_path: Path) -> None:
    training(tmp_path / "away")
    training(tmp_path / "runs" / ".old")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "away")
    assert collect([tmp_path / "runs"])["runs"] == []


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from kdrobust import cli; cli.main(['report', '--help']); import kdrobust.htmlreport.page; print([m for m in ('torch', 'hydra', 'numpy', 'plotly') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
