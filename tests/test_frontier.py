"""`kdrobust frontier`: accuracy against size, from the results of runs."""

import csv
import json
from pathlib import Path

import pytest

from kdrobust.cli import main
from kdrobust.evaluation import wilson
from kdrobust.frontier import collect

THREAT = {"norm": "linf", "eps": 0.1}


def trained(parameters, robust, clean=0.9):
    return {
        "stage": "distill", "threat": THREAT, "model": {"parameters": parameters, "flops": 10 * parameters},
        "validation": {"samples": 100, "epoch": 3, "accuracy": clean, "robust_accuracy": robust},
    }  # fmt: skip


def evaluated(parameters, robust, clean=0.9, **more):
    evaluation = {
        "n": 200, "threat": {**THREAT, **more}, "unreliable": False,
        "clean": {"accuracy": clean}, "worst_case": {"accuracy": robust},
    }  # fmt: skip
    return {
        "stage": "evaluate", "threat": THREAT, "evaluation": evaluation,
        "model": {"parameters": parameters, "flops": 10 * parameters},
    }  # fmt: skip


def write(folder: Path, **results):
    for name, result in results.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "result.json").write_text(json.dumps(result))
    return folder


def test_validation_figures_of_a_sweep(tmp_path):
    folder = write(tmp_path / "width", a=trained(400, 0.5), b=trained(100, 0.4), c=trained(200, 0.35))
    points = collect([folder])
    assert [(point.run, point.parameters, point.split, point.n) for point in points] == [
        ("b", 100, "validation", 100), ("c", 200, "validation", 100), ("a", 400, "validation", 100),
    ]  # fmt: skip
    assert [point.undominated for point in points] == [True, False, True]
    assert (points[0].low, points[0].high) == wilson(40, 100)


def test_validation_figures_are_told_to_be_such(tmp_path, capsys):
    folder = write(tmp_path / "width", a=trained(400, 0.5))
    assert main(["frontier", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "  100 validation samples\nvalidation figures: of the attack and the samples that chose" in out
    assert "\n1 model: " in out


def test_evaluations_are_preferred_and_several_models_taken_apart(tmp_path):
    several = evaluated(100, 0.4)
    several["models"] = [{"name": name, "results": [evaluated(size, 0.3)]} for name, size in (("x", 10), ("y", 20))]
    folder = write(tmp_path / "all", a=trained(400, 0.5), b=evaluated(100, 0.4), c=several)
    assert [(point.run, point.parameters) for point in collect([folder])] == [("c: x", 10), ("c: y", 20), ("b", 100)]


def test_table_and_plot(tmp_path, capsys):
    one = write(tmp_path / "width", a=evaluated(100, 0.4), b=evaluated(400, 0.6))
    two = write(tmp_path / "pruned", a=evaluated(200, 0.6), broken={"stage": "evaluate"}, other={"stage": "prune"})
    assert main(["frontier", str(one), str(two), "x=flops", f"out={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "width/a  100 parameters  1,000 FLOPs  clean 90.0%  robust 40.0%" in out
    assert "  200 test samples\n" in out
    assert "validation figures" not in out
    assert "\n3 models: " in out
    rows = list(csv.DictReader((tmp_path / "out" / "frontier.csv").read_text().splitlines()))
    assert [(row["series"], row["flops"], row["undominated"]) for row in rows] == [
        ("width", "1000", "True"), ("pruned", "2000", "True"), ("width", "4000", "False"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    one = write(tmp_path / "one", a=evaluated(100, 0.4))
    for name, other, told in (
        ("two", trained(100, 0.4), "differ in split (test, validation)"),
        ("three", evaluated(100, 0.4, eps=0.2), "differ in eps (0.1, 0.2)"),
        ("four", evaluated(100, 0.4, norm="l2"), "differ in norm (l2, linf)"),
    ):
        assert main(["frontier", str(one), str(write(tmp_path / name, a=other))]) == 1
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        ([], "frontier: which folder?", 2),
        (["absent"], "frontier absent: no such folder", 2),
        (["y=flops"], "frontier y=: no such key; there are x, out", 2),
        (["x=size"], "frontier x=size: expected parameters or flops", 2),
        (["--x", "flops"], "frontier --x: no such flag", 2),
        (["EMPTY"], "no finished training or evaluation below it", 1),
    ],
)
def test_mistakes_get_one_line(tmp_path, capsys, arguments, told, code):
    assert main(["frontier", *(str(tmp_path) if word == "EMPTY" else word for word in arguments)]) == code
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_help(capsys):
    assert main(["frontier", "--help"]) == 0
    assert "kdrobust frontier FOLDER" in capsys.readouterr().out
