"""Eight-bit integers in an ONNX file, by ONNX Runtime's quantiser."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdrobust.errors import CheckpointError
from kdrobust.export.write import INPUT, onnx_library
from kdrobust.models.state import one_line
from kdrobust.tracking import write_bytes

QUANTIZATIONS = ("none", "dynamic_int8", "static_int8")


def quantize_onnx(
    source: str | Path, target: str | Path, *, kind: str, calibration: Tensor | None = None, batch_size: int = 64
) -> None:
    """Write an ONNX model with weights (per channel) and activations of convolutions and matrix products in int8.

    `dynamic_int8` scales activations by each batch's own range, so that a sample's answer depends on what stands beside
    it in the batch; `static_int8` by the ranges seen on calibration samples. Weights get seven bits of the eight
    (`reduce_range`): processors without VNNI saturate sums of products of eight-bit numbers, and would answer
    otherwise than those with it.

    Args:
        source: the float model, of `write_model`.
        target: where the quantised one is written; with the same metadata.
        kind: `dynamic_int8` or `static_int8`.
        calibration: float inputs in [0, 1], [N, ...], for `static_int8`: training samples.
        batch_size: calibration samples at once.

    Raises:
        CheckpointError: ONNX Runtime cannot quantise this model.
        RunFolderError: the file cannot be written.

    Source: Jacob et al., CVPR 2018, arXiv:1712.05877; onnxruntime.quantization.
    """
    onnx_library()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _quantized(Path(source), Path(scratch), kind, calibration, batch_size)
    except Exception as error:  # the quantiser's exceptions share no base but this
        told = f"quantize={kind}: the model cannot be quantised ({one_line(error)}); set quantize=none"
        raise CheckpointError(told) from error
    finally:
        logging.disable(before)
    write_bytes(target, content)


def _quantized(source: Path, scratch: Path, kind: str, calibration: Tensor | None, batch_size: int) -> bytes:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, target = scratch / "prepared.onnx", scratch / "quantized.onnx"
    quant_pre_process(str(source), str(prepared))
    settings: dict[str, Any] = {
        "weight_type": quantization.QuantType.QInt8,
        "per_channel": True,
        "reduce_range": True,
    }
    if kind == "dynamic_int8":
        quantization.quantize_dynamic(str(prepared), str(target), **settings)
    else:
        assert calibration is not None
        reader = _Samples(calibration, batch_size)
        quantization.quantize_static(
            str(prepared),
            str(target),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            **settings,
        )
    return _with_metadata(source, target)


def _with_metadata(source: Path, target: Path) -> bytes:
    """The quantised file with what the float one says about itself, which the quantiser drops or adds to."""
    library = onnx_library()
    proto = library.load(str(target))
    props = {entry.key: entry.value for entry in library.load(str(source)).metadata_props}
    library.helper.set_model_props(proto, props)
    content: bytes = proto.SerializeToString()
    return content


class _Samples:
    """A CalibrationDataReader: batches by input name, None at the end."""

    def __init__(self, inputs: Tensor, batch_size: int) -> None:
        pieces = np.split(inputs.numpy(), range(batch_size, len(inputs), batch_size))
        self._pieces = iter([{INPUT: piece} for piece in pieces])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._pieces, None)
