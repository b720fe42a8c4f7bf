"""Detectors from the command line: trained, distilled, evaluated with the attack that knows them, and refused without."""

import json

import numpy as np
import pytest

from kdrobust.detection.calibration import read_calibration
from tests import detectors
from tests.stages.conftest import Workplace

LIMITS = [f"data.source.data.{key}={value}" for key, value in detectors.LIMITS.items()]
QUICK = ["data.source.attacks.pgd_weak.steps=3", "data.source.attacks.pgd_strong.steps=3", "threads=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workplace with two classifiers, a third for transfer, a detector, and a student distilled from it."""
    workplace = Workplace(tmp_path_factory.mktemp("detection"))
    data = detectors.digits()
    for name, hidden in (("classifier", (24,)), ("surrogate", (32, 16)), ("other", (20, 20))):
        detectors.save_classifier(workplace.folder / name / "best.ckpt", hidden=hidden, data=data)
    workplace.data = [
        *LIMITS, *QUICK,
        f"data.source.classifier={workplace.folder / 'classifier' / 'best.ckpt'}",
        f"data.source.surrogate={workplace.folder / 'surrogate' / 'best.ckpt'}",
        f"data.root={workplace.folder / 'datasets'}",
    ]  # fmt: skip
    network = ["teacher.network.pixels=[4]", "teacher.network.features=[features.1]"]
    workplace.run(
        "teacher", "experiment=detection/teacher", *workplace.data, *network, "epochs=3", "run.folder=teacher",
        "optimizer.lr=0.01",
    )  # fmt: skip
    workplace.run(
        "distill", "experiment=detection/student", *workplace.data, *network, "epochs=2", "run.folder=student",
        f"teacher.checkpoint={workplace.folder / 'teacher' / 'best.ckpt'}", "optimizer.lr=0.01",
    )  # fmt: skip
    return workplace


def evaluation(place, *more):
    return [
        "evaluate", "data=detection", "evaluation=detection", *place.data, "evaluation.adaptive.steps=6",
        "evaluation.attacks.margin.steps=8", "~evaluation.attacks.square", "evaluation.corruptions.names=[contrast,fog]",
        "evaluation.fpr=[0.05]", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(place):
    place.run(
        *evaluation(place),
        "checkpoint=teacher/best.ckpt,student/best.ckpt",
        "threat.eps=0.15,0.3",
        f"evaluation.surrogates=[{place.folder / 'other' / 'best.ckpt'}]",
        "run.folder=evaluation",
    )
    return place.folder / "evaluation"


def test_training_leaves_what_fixes_a_threshold(place):
    for name in ("teacher", "student"):
        result = place.result(name)
        assert result["files"]["detector"] == "detector.json"
        assert result["data"]["class_names"] == ["clean", "attacked"]
        assert "robust_accuracy" not in result["validation"]
        assert len(read_calibration(place.folder / name / "best.ckpt").clean) == 60
    assert place.result("teacher")["validation"]["accuracy"] > 0.6


def test_every_attack_and_eps_has_its_figures(evaluated):
    found = json.loads((evaluated / "result.json").read_text())
    detection = found["detection"]
    names = [(row["attack"], row["eps"]) for row in detection["attacks"]]
    assert names == [(name, eps) for eps in (0.15, 0.3) for name in ("margin", "mi_fgsm_from_other")]
    assert [row["eps"] for row in detection["adaptive"]] == [0.15, 0.3]
    assert {row["made_on"] for row in detection["attacks"]} == {"classifier", "other"}
    assert all(row["attacked"] == detection["adaptive"][0]["attacked"] < 60 for row in detection["attacks"])
    assert (detection["thresholds"][0]["on"], detection["thresholds"][0]["n"]) == ("clean", 60)
    assert [(row["shift"], row["severity"], row["trained"]) for row in detection["shifts"]] == [
        ("contrast", 2, True), ("contrast", 4, True), ("fog", 2, False), ("fog", 4, False),
    ]  # fmt: skip
    assert [check["name"] for check in detection["checks"]] == ["D1", "D2", "D3", "D4"]
    assert set(detection["trained_on"]["attacks"]) == {"fgsm_weak", "fgsm_strong", "pgd_weak", "pgd_strong"}
    for file in found["files"].values():
        assert (evaluated / file).exists()


def test_the_attack_that_knows_the_detector_goes_unnoticed_more_often(evaluated):
    detection = json.loads((evaluated / "result.json").read_text())["detection"]

    def unnoticed(rows, eps):
        return max(row["at_fpr"]["0.05"]["unnoticed"]["count"] for row in rows if row["eps"] == eps)

    for eps in (0.15, 0.3):
        assert unnoticed(detection["adaptive"], eps) >= unnoticed(detection["attacks"], eps)
    assert unnoticed(detection["adaptive"], 0.3) > unnoticed(detection["attacks"], 0.3)


def test_the_student_stands_beside_the_teacher(evaluated):
    found = json.loads((evaluated / "result.json").read_text())
    assert [row["name"] for row in found["models"]] == ["teacher", "student"]
    columns = {line["column"] for line in found["comparisons"]}
    assert "throughput" in columns
    assert "margin" in columns
    areas = next(line for line in found["comparisons"] if line["column"] == "margin" and line["eps"] == 0.3)
    assert areas["interval"][0] <= areas["difference"] <= areas["interval"][1]
    assert "images a second for" in found["comparisons"][-1]["text"]
    with np.load(evaluated / "scores_student.npz") as scores:
        assert scores["clean"].shape == (60,)
        assert "adaptive_0.3" in scores.files


def test_finished_attacks_are_not_made_again(place, evaluated):
    kept = place.folder / "datasets" / "detection"
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    status = json.loads((evaluated / "status.json").read_text())
    (evaluated / "status.json").write_text(json.dumps({**status, "status": "failed"}))
    figures = (evaluated / "detection.csv").read_text()
    place.run(
        *evaluation(place),
        "checkpoint=teacher/best.ckpt,student/best.ckpt",
        "threat.eps=0.15,0.3",
        f"evaluation.surrogates=[{place.folder / 'other' / 'best.ckpt'}]",
        "run.folder=evaluation",
    )
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == before
    assert (evaluated / "detection.csv").read_text() == figures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluation=quick"], "a detector is not reported without an attack that knows it; set evaluation=detection"),
        (["data=digits"], "measures detectors, which are trained on data=detection"),
        (["threat.eps=0.25"], "threat.eps=0.25: attack margin has an ε of the training"),
        (["evaluation.attacks.margin.goal=cross_entropy"], "attack margin is of the kind of the training's pgd_"),
        (["evaluation.surrogates=[surrogate/best.ckpt]"], "evaluation.surrogates[0]: is the training's surrogate"),
        (["evaluation.surrogates=[none.ckpt]"], "evaluation.surrogates[0]=none.ckpt: no such file"),
        (["evaluation.fpr=[2]"], "evaluation.fpr: expected shares between 0 and 1"),
        (["evaluation.threshold_on=mud"], "evaluation.threshold_on=mud: expected clean or natural"),
        (["evaluation.corruptions.names=[rain]"], "evaluation.corruptions.names: no corruption 'rain'"),
        (["trainer=ddp_cpu"], "a detector is measured by one process"),
        (["evaluation.adaptive.weights=[]"], "evaluation.adaptive.weights=[]: give at least one"),
    ],
)
def test_refused_before_anything_is_attacked(place, capsys, arguments, words):
    before = sorted((place.folder / "datasets" / "detection").iterdir())
    capsys.readouterr()
    given = evaluation(place, "checkpoint=teacher/best.ckpt", "threat.eps=0.15", "run.folder=refused")
    if arguments in (["evaluation=quick"], ["data=digits"]):
        given = [
            "evaluate",
            "data=detection",
            "evaluation=detection",
            "checkpoint=teacher/best.ckpt",
            "run.folder=refused",
        ]
        given += place.data if arguments == ["evaluation=quick"] else []
    place.run(*given, *arguments, code=2)
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert sorted((place.folder / "datasets" / "detection").iterdir()) == before


def test_a_surrogate_that_is_not_there(place, capsys):
    arguments = [*place.data, "data.source.surrogate=none.ckpt"]
    place.run("teacher", "experiment=detection/teacher", *arguments, "run.folder=missing", code=2)
    assert "data.source.surrogate=none.ckpt: no such checkpoint; train one with" in capsys.readouterr().err


def test_a_pipeline_would_measure_it_as_a_classifier(place, capsys):
    place.run("pipeline", *place.data, "data=detection", "run.folder=pipeline", code=2)
    error = capsys.readouterr().err
    assert "set evaluation=detection (a pipeline trains and measures classifiers)" in error
    assert not (place.folder / "pipeline" / "config_resolved.yaml").exists()
    place.run("pipeline", "evaluation=detection", "run.folder=pipeline", code=2)
    assert "measures detectors; for classifiers set evaluation=quick" in capsys.readouterr().err


def test_a_frontier_of_classifiers_has_no_detector(place, tmp_path, capsys):
    result = place.result("teacher")
    result["validation"]["robust_accuracy"] = 0.5
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "result.json").write_text(json.dumps(result))
    place.run("frontier", tmp_path, code=1)
    assert "Traceback" not in capsys.readouterr().err
    del result["files"]["detector"]
    (tmp_path / "detector" / "result.json").write_text(json.dumps(result))
    place.run("frontier", tmp_path)
