"""Stage `export`: the file, what is measured on it, its card, and what it refuses."""

import json

import numpy as np
import pytest

import kdrobust
from kdrobust.data import DataModule, Digits
from kdrobust.models import file_hash
from tests.export.models import save_checkpoint

QUICK = [
    "evaluation.num_samples=20", "evaluation.checks=false", "evaluation.attacks.square.queries=5", "threads=1",
    "evaluation.attacks.pgd20.steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    data = DataModule(source=Digits(test_fraction=0.3), name="digits")
    data.prepare()
    return data


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("checkpoints")
    return [save_checkpoint(folder / f"{seed}.ckpt", digits.spec, seed) for seed in (0, 1)]


def read(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory, checkpoints):
    from tests.stages.conftest import Workplace

    place = Workplace(tmp_path_factory.mktemp("runs"))
    place.run("evaluate", *QUICK[:2], f"checkpoint={checkpoints[0]}", "run.name=before", "evaluation.latency=false")
    place.run("export", *QUICK, f"checkpoint={checkpoints[0]}", "run.folder=float", "evaluation.checks=true",
              "evaluation.check_settings={samples: 8}",
              f"compare={checkpoints[1]}")  # fmt: skip
    place.run("export", *QUICK, f"checkpoint={checkpoints[0]}", "run.folder=int8", "quantize=static_int8",
              "calibration=40", "compare=null", "evaluated=null", "evaluation.latency=false")  # fmt: skip
    return place.folder


def test_the_float_file_answers_as_its_checkpoint(runs, checkpoints, digits):
    result = read(runs / "float")
    told = result["export"]
    assert (told["file"], told["format"], told["quantize"]) == ("model.onnx", "onnx", "none")
    assert told["sha256"] == file_hash(runs / "float" / "model.onnx")
    assert told["file_bytes"] == (runs / "float" / "model.onnx").stat().st_size
    test = digits.split("test")
    assert told["agreement"]["n"] == len(test) == 540
    assert told["agreement"]["within_tolerance"]
    assert told["agreement"]["differing"] == []
    one, two = (kdrobust.load(path).predict(test.inputs) for path in (runs / "float" / "model.onnx", checkpoints[0]))
    assert np.array_equal(one.classes, two.classes)
    assert np.abs(one.logits - two.logits).max() == pytest.approx(told["agreement"]["max_difference"], abs=1e-6)


def test_the_file_tells_its_own_robustness(runs, checkpoints):
    result = read(runs / "float")
    told = kdrobust.load(runs / "float" / "model.onnx").metadata
    assert told.class_names == tuple("0123456789")
    assert told.checkpoint == result["checkpoint"]["sha256"] == file_hash(checkpoints[0])
    assert told.robustness["worst_case"] == result["evaluation"]["worst_case"]
    assert told.robustness["checked"] is True
    assert set(told.robustness["attacks"]) == {
        "fgsm", "pgd20", "square", "pgd20_from_twin", "square_from_twin",
    }  # fmt: skip


def test_models_stand_side_by_side(runs):
    result = read(runs / "float")
    assert [row["name"] for row in result["models"]] == ["compared", "checkpoint", "exported"]
    for row in result["models"]:
        model = row["results"][0]["model"]
        assert {"parameters", "flops", "file_bytes", "latency"} <= set(model)
        assert [entry["batch"] for entry in model["latency"]] == [1, 128]
    # a float file falls to what its checkpoint falls to
    one, two = (row["results"][0]["evaluation"] for row in result["models"][1:])
    assert one["attacks"]["pgd20"]["correct"] == two["attacks"]["pgd20"]["correct"]
    assert two["attacks"]["square"]["correct"] <= two["clean"]["correct"]
    assert list(one["attacks"]) == list(two["attacks"])
    assert {line["first"] for line in result["comparisons"]} == {"checkpoint"}
    assert [line["text"] for line in result["comparisons"] if line["column"] == "worst_case"]
    table = (runs / "float" / "costs.md").read_text()
    assert "exported file" in table
    assert "in memory" not in table


def test_the_quantised_file_is_measured_itself(runs, digits):
    result = read(runs / "int8")
    told = result["export"]
    assert told["calibration"] == 40
    test = digits.split("test")
    student = kdrobust.load(runs / "int8" / "model.onnx")
    found = student.predict(test.inputs)
    correct = found.classes == test.labels.numpy()
    samples = np.load(runs / "int8" / "samples.npz")
    assert np.array_equal(samples["clean"], correct[samples["indices"]])
    before = read(runs / "float")["export"]["agreement"]
    assert told["agreement"]["max_difference"] > 10 * before["max_difference"]
    listed = {each["index"] for each in told["agreement"]["differing"]}
    assert all(each["after"] == found.classes[each["index"]] for each in told["agreement"]["differing"])
    floats = kdrobust.load(runs / "float" / "model.onnx").predict(test.inputs)
    assert listed == set(np.flatnonzero(floats.classes != found.classes).tolist())


def test_the_card_says_what_was_measured(runs):
    card = (runs / "float" / "MODEL_CARD.md").read_text()
    worst = read(runs / "float")["evaluation"]["worst_case"]
    assert f"worst case over these: {100 * worst['accuracy']:.1f} %" in card
    assert "20 test samples of digits, ℓ∞, ε = 0.1" in card
    assert "Earlier, on the checkpoint, 20 samples" in card
    assert "no result.json lies beside the checkpoint" in card
    assert 'kdrobust.load("model.onnx")' in card
    assert "Earlier" not in (runs / "int8" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("format", ["torchscript", "torch_export"])
def test_other_formats(workplace, checkpoints, format):
    workplace.run("export", *QUICK, f"checkpoint={checkpoints[0]}", f"format={format}", "compare=null",
                  "evaluation.latency=false", "run.folder=run")  # fmt: skip
    told = read(workplace.folder / "run")["export"]
    assert told["format"] == format
    assert told["agreement"]["within_tolerance"]
    student = kdrobust.load(workplace.folder / "run" / told["file"], trust=True)
    assert student.metadata.robustness["n"] == 20


def test_a_file_that_answers_otherwise_is_not_handed_out(workplace, checkpoints, monkeypatch, capsys):
    from kdrobust.stages import export
    from tests.export.models import classifier

    original = export.write_model

    def wrong(model, metadata, path, *, format):
        import dataclasses

        spec = dataclasses.replace(checkpoint_spec(), mean=(0.3,), std=(0.4,))
        original(classifier(7, spec), metadata, path, format=format)

    def checkpoint_spec():
        from kdrobust.models import read_checkpoint, stored_spec

        return stored_spec(read_checkpoint(checkpoints[0]))

    monkeypatch.setattr(export, "write_model", wrong)
    workplace.run("export", *QUICK, f"checkpoint={checkpoints[0]}", "run.folder=run", code=1)
    assert "logits differ from the checkpoint's by up to" in capsys.readouterr().err
    assert not (workplace.folder / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["format=tflite"], "format: expected onnx, torchscript or torch_export"),
        (["quantize=int4"], "quantize: expected none, dynamic_int8 or static_int8"),
        (["format=torchscript", "quantize=dynamic_int8"], "quantize=dynamic_int8: only format=onnx is quantised"),
        (["format=torch_export", "quantize=static_int8"], "quantize=static_int8: only format=onnx is quantised"),
        (["checkpoint=absent.ckpt"], "checkpoint=absent.ckpt: no such file"),
        (["checkpoint=null"], "checkpoint: not given"),
        (["compare=absent.ckpt"], "compare=absent.ckpt: no such file"),
        (["calibration=0"], "calibration: expected"),
        (["agreement=0"], "agreement: expected"),
        (["evaluated=[1]"], "evaluated: expected"),
        (["checkpoint=[a,b]"], "checkpoint: one at a time"),
    ],
)
def test_mistakes_get_one_line(workplace, checkpoints, capsys, arguments, told):
    workplace.run("export", f"checkpoint={checkpoints[0]}", *arguments, "run.folder=run", code=2)
    error = capsys.readouterr().err.strip()
    assert told in error
    assert "\n" not in error
    assert not (workplace.folder / "run" / "model.onnx").exists()
