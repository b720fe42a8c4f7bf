"""`kdrobust predict`: from files to a table, and its mistakes."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kdrobust
from kdrobust.cli import main
from kdrobust.serving.progress import Progress
from tests.export.models import SPEC, exported, pixels, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    save_checkpoint(folder / "best.ckpt")
    exported(folder)
    np.savez_compressed(folder / "x.npz", x=pixels(9).numpy())
    (folder / "pictures").mkdir()
    for number, image in enumerate(pixels(5)):
        grey = (image[0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(grey).save(folder / "pictures" / f"{number}.png")
    return folder


def rows(text):
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("model", ["best.ckpt", "model.onnx"])
def test_a_folder_to_standard_output(place, capsys, model):
    assert main(["predict", str(place / model), f"input={place / 'pictures'}", "batch_size=2"]) == 0
    out, err = capsys.readouterr()
    found = rows(out)
    decoded = np.stack([np.asarray(Image.open(path)) for path in sorted((place / "pictures").iterdir())])
    wanted = kdrobust.load(place / model).predict(decoded)
    assert [row["input"] for row in found] == [f"{number}.png" for number in range(5)]
    assert [int(row["class"]) for row in found] == wanted.classes.tolist()
    assert [row["name"] for row in found] == wanted.names
    shares = np.array([[float(row[f"p_{name}"]) for name in SPEC.class_names] for row in found])
    np.testing.assert_allclose(shares, wanted.probabilities, atol=1e-6)
    assert err.startswith("5 predictions in ")
    assert "standard output" in err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_every_kind_of_table_says_the_same(place, tmp_path, suffix):
    if suffix == "parquet" and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    path = tmp_path / "new" / f"table.{suffix}"
    command = ["predict", f"model={place / 'model.onnx'}", f"input={place / 'x.npz'}", f"output={path}"]
    assert main([*command, "batch_size=4"]) == 0
    wanted = kdrobust.load(place / "model.onnx").predict(pixels(9))
    if suffix == "csv":
        found = [(row["name"], float(row["confidence"])) for row in rows(path.read_text())]
    elif suffix == "json":
        content = json.loads(path.read_text())
        found = [(entry["name"], entry["confidence"]) for entry in content]
        assert set(content[0]["probabilities"]) == set(SPEC.class_names)
    else:
        from pyarrow import parquet

        table = parquet.read_table(path)
        assert table.column_names[4:] == [f"p_{name}" for name in SPEC.class_names]
        found = list(zip(table["name"].to_pylist(), table["confidence"].to_pylist(), strict=True))
    assert [name for name, _ in found] == wanted.names
    np.testing.assert_allclose([share for _, share in found], wanted.confidence, atol=1e-6)
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_table_is_whole_or_not_there(place, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "a.png")
    (folder / "b.png").write_text("no image")
    path = tmp_path / "table.csv"
    command = ["predict", str(place / "model.onnx"), f"input={folder}", f"output={path}", "batch_size=1"]
    assert main(command) == 1
    error = capsys.readouterr().err.strip()
    assert "b.png: no readable image" in error
    assert "\n" not in error
    assert [child.name for child in tmp_path.iterdir()] == ["mixed"]


def test_nothing_is_overwritten(place, tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text("mine")
    assert main(["predict", str(place / "model.onnx"), f"input={place / 'x.npz'}", f"output={path}"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        ([], "predict: which model?", 2),
        (["model.onnx"], "predict: classify what? set input=", 2),
        (["model.onnx", "inptu=a.png"], "no such key; did you mean input?", 2),
        (["model.onnx", "colour=red"], "no such key; there are model, input", 2),
        (["model.onnx", "input="], "predict input=: a value is missing", 2),
        (["model.onnx", "other.onnx", "input=a"], "one model at a time", 2),
        (["model.onnx", "--input", "a"], "predict --input: no such flag", 2),
        (["model.onnx", "input=a", "batch_size=0"], "batch_size=0: expected an integer >= 1", 2),
        (["model.onnx", "input=a", "threads=two"], "threads=two: expected an integer >= 1", 2),
        (["model.onnx", "input=a", "resize=8"], "resize=8: expected true or false", 2),
        (["model.onnx", "input=a", "output=a.xlsx"], "expected a name that ends in .csv, .json, .parquet", 2),
        (["absent.onnx", "input=a.png"], "absent.onnx: no such model file", 1),
        (["model.pt", "input=a.png"], "model.pt: no such model file", 1),
    ],
)
def test_mistakes_get_one_line(capsys, arguments, told, code):
    assert main(["predict", *arguments]) == code
    out, error = capsys.readouterr()
    assert told in error
    assert error.count("\n") == 1
    assert out == ""


def test_images_of_another_size_get_one_line(place, tmp_path, capsys):
    Image.new("L", (9, 8)).save(tmp_path / "a.png")
    command = ["predict", str(place / "model.onnx"), f"input={tmp_path / 'a.png'}"]
    assert main(command) == 1
    assert "9x8 pixels, the model takes 8x8; set resize=true" in capsys.readouterr().err
    assert main([*command, "resize=true"]) == 0
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1, 9, 8)))
    assert main(["predict", str(place / "model.onnx"), f"input={tmp_path / 'a.npz'}"]) == 1
    assert "the model takes (1, 8, 8) each" in capsys.readouterr().err


def test_progress_tells_the_time_left(monkeypatch, capsys):
    now = iter([0.0, 5.0, 11.0, 12.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = Progress(40, task="predict", noun="predictions")
    for _ in range(3):
        progress.add(11)
    progress.end("x.csv")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["predict  22/40  2 a second  left 9s", "33 predictions in 20.0 s, 2 a second: x.csv"]


@pytest.mark.parametrize("arguments", [["--help"], ["model.onnx"], ["MODEL", "input=x.npz"]])
def test_torch_is_loaded_for_torch_models_only(place, arguments):
    given = [str(place / "model.onnx") if word == "MODEL" else word for word in arguments]
    given = [f"input={place / 'x.npz'}" if word == "input=x.npz" else word for word in given]
    program = (
        "import sys\nfrom kdrobust.cli import main\nmain(['predict', *sys.argv[1:]])\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *given], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (8, 8, 1)])
def test_an_array_may_hold_one_image(place, tmp_path, capsys, shape):
    one = pixels(1).numpy()
    np.save(tmp_path / "one.npy", one.reshape(shape))
    assert main(["predict", str(place / "best.ckpt"), f"input={tmp_path / 'one.npy'}"]) == 0
    found = rows(capsys.readouterr().out)
    assert [row["input"] for row in found] == ["0"]
    assert [int(row["class"]) for row in found] == kdrobust.load(place / "best.ckpt").predict(one).classes.tolist()


@pytest.mark.parametrize(
    ("location", "length"),
    [("../w.bin", None), ("/dev/zero", None), ("link.bin", None), ("absent.bin", None), ("w.bin", 10**12)],
)
def test_an_onnx_file_reads_no_data_outside_of_its_folder(place, tmp_path, capsys, location, length):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(place / "model.onnx"))
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    content = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length or len(content)))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    folder = tmp_path / "in"
    folder.mkdir()
    for file in (tmp_path / "w.bin", folder / "w.bin"):
        file.write_bytes(content)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert main(["predict", f"model={folder / 'model.onnx'}", f"input={place / 'pictures'}"]) == 1
    error = capsys.readouterr().err
    assert "its external data cannot be read" in error
    assert error.count("\n") == 1
