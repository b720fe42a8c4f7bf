"""Exported files: what they compute, in batches of any size, and what they say about themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.export import SUFFIXES, stamp, write_model
from kdrobust.serving import open_runtime
from tests.export.models import SPEC, classifier, exported, metadata, pixels

FORMATS = sorted(SUFFIXES)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_answers_as_the_model_in_any_batch(tmp_path, format):
    runtime = open_runtime(exported(tmp_path, format), trust=True)
    assert runtime.format == format
    model = classifier()
    for n in (1, 2, 7, 33):
        x = pixels(n, seed=n)
        with torch.no_grad():
            wanted = model(x).numpy()
        np.testing.assert_allclose(runtime.answer(x.numpy()), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_lie_in_the_file_and_can_be_renewed(tmp_path, format):
    first = metadata(threat={"norm": "linf", "eps": 0.1}, checkpoint="0" * 64)
    path = tmp_path / f"m{SUFFIXES[format]}"
    write_model(classifier(), first, path, format=format)
    before = open_runtime(path, trust=True)
    assert before.metadata == first
    second = metadata(robustness={"worst_case": {"accuracy": 0.5}}, quantize="none")
    stamp(path, second)
    after = open_runtime(path, trust=True)
    assert after.metadata == second
    x = pixels(5).numpy()
    assert np.array_equal(before.answer(x), after.answer(x))


def test_an_onnx_file_names_no_source_files(tmp_path):
    content = exported(tmp_path).read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


def test_an_onnx_file_takes_pixels_and_gives_logits_in_a_free_batch(tmp_path):
    import onnx

    graph = onnx.load(str(exported(tmp_path))).graph
    (given,), (wanted,) = graph.input, graph.output
    assert (given.name, wanted.name) == ("pixels", "logits")
    sides = given.type.tensor_type.shape.dim
    assert sides[0].dim_param
    assert tuple(side.dim_value for side in sides[1:]) == SPEC.shape


class Odd(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1)[:, :3] * (1 if bool((inputs.sum() > 3).item()) else 2)


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_model_that_branches_on_its_input_is_refused(tmp_path, format):
    path = tmp_path / f"m{SUFFIXES[format]}"
    with pytest.raises(CheckpointError, match=f"format={format}: the model cannot be exported"):
        write_model(Odd(), metadata(), path, format=format)
    assert not path.exists()


def test_without_the_packages_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"needs onnxscript; pip install 'kdrobust\[export\]'"):
        exported(tmp_path)
