"""`kdrobust.load(...)` and what a student takes and gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kdrobust
from kdrobust.errors import CheckpointError, DataError, UsageError
from kdrobust.serving import Metadata, Student
from kdrobust.serving.student import as_batch, softmax
from tests.export.models import SPEC, classifier, exported, pixels, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


class Bright:
    """Says class 1 of bright images; notes what it is asked."""

    format = "none"

    def __init__(self, shape=(1, 4, 4)):
        self.metadata = Metadata(shape=shape, class_names=("dark", "bright"))
        self.asked = []

    def answer(self, pixels):
        self.asked.append(pixels)
        bright = pixels.reshape(len(pixels), -1).mean(axis=1)
        return np.stack([0.5 - bright, bright - 0.5], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        "checkpoint": save_checkpoint(folder / "best.ckpt"),
        "onnx": exported(folder),
        "torchscript": exported(folder, "torchscript"),
    }


@pytest.mark.parametrize("kind", ["checkpoint", "onnx", "torchscript"])
def test_every_kind_of_file_predicts_the_same(files, kind):
    x = pixels(10)
    student = kdrobust.load(files[kind], trust=True)
    assert (student.format, student.class_names) == (kind, SPEC.class_names)
    found = student.predict(x, batch_size=3)
    with torch.no_grad():
        logits = classifier()(x)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.probabilities, logits.softmax(dim=1).numpy(), atol=1e-6)
    assert found.classes.tolist() == logits.argmax(dim=1).tolist()
    assert found.names == [SPEC.class_names[label] for label in found.classes]
    np.testing.assert_allclose(found.confidence, found.probabilities.max(axis=1))


def test_a_checkpoint_tells_its_threat_and_hash(files):
    from kdrobust.models import file_hash

    told = kdrobust.load(files["checkpoint"]).metadata
    assert (told.threat["eps"], told.checkpoint) == (0.1, file_hash(files["checkpoint"]))


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_bytes_and_floats_are_the_same_pixels(wrap):
    student, grey = Student(Bright()), np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4) * 8
    one, two = student.predict(wrap(grey)), student.predict(wrap(grey.astype(np.float64) / 255))
    np.testing.assert_allclose(one.logits, two.logits, atol=1e-7)
    assert one.logits.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "n"),
    [((5, 3, 4, 6), 5), ((3, 4, 6), 1), ((5, 4, 6, 3), 5), ((4, 6, 3), 1), ((0, 3, 4, 6), 0)],
)
def test_shapes_of_colour_images(given, n):
    assert as_batch(np.zeros(given, dtype=np.uint8), (3, 4, 6)).shape == (n, 3, 4, 6)


@pytest.mark.parametrize(("given", "n"), [((5, 4, 6), 5), ((4, 6), 1), ((1, 4, 6), 1), ((5, 4, 6, 1), 5)])
def test_shapes_of_grey_images(given, n):
    values = np.random.default_rng(0).random(given)
    batch = as_batch(values, (1, 4, 6))
    assert batch.shape == (n, 1, 4, 6)
    assert np.array_equal(batch.ravel(), values.ravel())


def test_channels_last_is_turned_not_reshaped():
    values = np.random.default_rng(0).random((2, 4, 6, 3))
    assert np.array_equal(as_batch(values, (3, 4, 6))[1, 2], values[1, :, :, 2])


def test_waveforms_are_inputs_too():
    assert as_batch(np.zeros((3, 1, 80)), (1, 80)).shape == (3, 1, 80)
    assert as_batch(np.zeros((1, 80)), (1, 80)).shape == (1, 1, 80)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((2, 1, 5, 4)), r"images have shape \(2, 1, 5, 4\); the model takes \(1, 4, 4\) each"),
        (np.zeros((1, 4, 4), dtype=np.int64), "images have dtype int64; expected uint8"),
        (np.full((1, 4, 4), 200.0), "pixels from 0 to 200, expected .0, 1.; divide by 255"),
        (np.full((1, 4, 4), -2.0), "pixels from -2 to 0, expected .0, 1.; normalisation is inside"),
        (np.full((1, 4, 4), np.nan), "NaN among the pixels"),
        (np.full((1, 4, 4), np.inf), "pixels from 0 to inf"),
        (np.array([["a"]]), "images have dtype"),
    ],
)
def test_images_it_cannot_take(images, told):
    with pytest.raises(DataError, match=told) as error:
        Student(Bright()).predict(images)
    assert "\n" not in str(error.value)


def test_batches_are_no_larger_than_asked():
    runtime = Bright()
    found = Student(runtime).predict(np.zeros((7, 1, 4, 4)), batch_size=3)
    assert [len(asked) for asked in runtime.asked] == [3, 3, 1]
    assert len(found) == 7
    assert len(Student(runtime).predict(np.zeros((0, 1, 4, 4)))) == 0
    with pytest.raises(ValueError, match="batch_size"):
        Student(runtime).predict(np.zeros((1, 1, 4, 4)), batch_size=0)


def test_softmax_of_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0]], dtype=np.float32)), [[0.5, 0.5]])


def test_code_needs_trust(files):
    with pytest.raises(UsageError, match=r"is code that runs with your rights; .* set trust=true"):
        kdrobust.load(files["torchscript"])
    kdrobust.load(files["onnx"])


@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model.pt2", "best.ckpt"])
def test_files_that_are_none(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="no such model file"):
        kdrobust.load(path, trust=True)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match=name) as error:
        kdrobust.load(path, trust=True)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="is a folder"):
        kdrobust.load(tmp_path)


def test_an_onnx_file_of_somebody_else(tmp_path, files):
    import onnx

    proto = onnx.load(str(files["onnx"]))
    del proto.metadata_props[:]
    onnx.save(proto, str(tmp_path / "bare.onnx"))
    with pytest.raises(CheckpointError, match="says nothing about its classes"):
        kdrobust.load(tmp_path / "bare.onnx")


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format":1,"shape":[],"class_names":[]}']
)
def test_damaged_metadata(text):
    with pytest.raises(CheckpointError):
        Metadata.from_json(text, "m.onnx")


def test_nothing_heavy_is_imported_before_it_is_needed(files):
    program = (
        "import sys, kdrobust\n"
        "print([name for name in ('torch', 'numpy', 'onnxruntime') if name in sys.modules])\n"
        "import numpy\n"
        f"kdrobust.load({str(files['onnx'])!r}).predict(numpy.zeros((1, 8, 8)))\n"
        "print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
