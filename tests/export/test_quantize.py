"""Eight bits: small files, close answers, a sample's answer its own."""

import numpy as np
import pytest
import torch

from kdrobust.errors import CheckpointError
from kdrobust.export import quantize_onnx
from kdrobust.serving import open_runtime
from tests.export.models import classifier, exported, metadata, pixels


@pytest.fixture(scope="module", params=["dynamic_int8", "static_int8"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    source = exported(folder, quantize=request.param, checkpoint="1" * 64)
    quantize_onnx(source, folder / "int8.onnx", kind=request.param, calibration=pixels(64))
    return source, folder / "int8.onnx"


def test_answers_are_close_but_rounded(pair):
    x = pixels(50, seed=3)
    with torch.no_grad():
        wanted = classifier()(x).numpy()
    logits = open_runtime(pair[1]).answer(x.numpy())
    apart = np.abs(logits - wanted).max()
    assert 0 < apart < 0.1 * np.abs(wanted).max()


def test_weights_are_integers_and_metadata_stay(pair):
    import onnx

    kinds = {
        tensor.data_type for tensor in onnx.load(str(pair[1])).graph.initializer if tensor.name and len(tensor.dims) > 1
    }
    assert onnx.TensorProto.INT8 in kinds
    told = open_runtime(pair[1]).metadata
    assert told == open_runtime(pair[0]).metadata
    assert told == metadata(quantize=told.quantize, checkpoint="1" * 64)


def test_an_answer_does_not_depend_on_its_neighbours(pair):
    runtime, x = open_runtime(pair[1]), pixels(8).numpy()
    # scales of a whole batch would follow its brightest picture
    x[1:] *= np.linspace(0.1, 1, 7).reshape(-1, 1, 1, 1).astype(np.float32)
    together = runtime.answer(x)
    alone = np.concatenate([runtime.answer(x[place : place + 1]) for place in range(len(x))])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_model_that_cannot_be_read_is_told_in_one_line(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf at all")
    with pytest.raises(CheckpointError, match="quantize=dynamic_int8: the model cannot be quantised") as error:
        quantize_onnx(broken, tmp_path / "int8.onnx", kind="dynamic_int8")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "int8.onnx").exists()
