"""Writing a classifier as ONNX, TorchScript or a torch.export archive, with its metadata inside."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models.state import one_line
from kdrobust.serving.metadata import KEY, Metadata
from kdrobust.serving.runtime import FORMATS
from kdrobust.tracking import write_bytes

#: Format to its file name ending.
SUFFIXES = {kind: suffix for suffix, kind in FORMATS.items()}
#: What the exported graph calls its input and output.
INPUT, OUTPUT = "pixels", "logits"
_EXTRA = f"{KEY}.json"


def write_model(model: nn.Module, metadata: Metadata, path: str | Path, *, format: str) -> None:
    """Write a model that takes [B, *shape] in [0, 1], any B, and gives logits [B, K].

    Args:
        model: normalisation inside; in eval mode, on the CPU.
        metadata: written into the file.
        path: of the file.
        format: `onnx`, `torchscript` or `torch_export`.

    Raises:
        UsageError: a package that the format needs is not installed.
        CheckpointError: the model cannot be expressed in this format.
        RunFolderError: the file cannot be written.
    """
    sample = torch.full((2, *metadata.shape), 0.5)
    writers = {"onnx": _onnx, "torchscript": _torchscript, "torch_export": _torch_export}
    try:
        with _quiet(), torch.no_grad():
            content = writers[format](model, sample, metadata)
    except UsageError:
        raise
    except Exception as error:  # each exporter has exceptions of its own
        told = f"format={format}: the model cannot be exported ({one_line(error)}); try another format"
        raise CheckpointError(told) from error
    write_bytes(path, content)


def stamp(path: str | Path, metadata: Metadata) -> None:
    """Give a file of `write_model` other metadata; what it computes stays as it is.

    Raises:
        RunFolderError: the file cannot be written.
    """
    place = Path(path)
    with _quiet():
        if place.suffix == SUFFIXES["onnx"]:
            write_bytes(place, _stamped(onnx_library().load(str(place)), metadata))
        elif place.suffix == SUFFIXES["torchscript"]:
            script = torch.jit.load(str(place), map_location="cpu")  # type: ignore[no-untyped-call]
            write_bytes(place, _saved_script(script, metadata))
        else:
            write_bytes(place, _saved_program(torch.export.load(str(place)), metadata))


def onnx_library() -> Any:
    """The package onnx.

    Raises:
        UsageError: it, or what PyTorch's exporter needs beside it, is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - what is exported is checked by it
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it
    except ImportError as error:
        raise UsageError(f"format=onnx: needs {error.name}; pip install 'kdrobust[export]'") from None
    return onnx


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' talk: deprecations of what they call themselves, steps, and notes on optimisation."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _onnx(model: nn.Module, sample: torch.Tensor, metadata: Metadata) -> bytes:
    onnx_library()
    program = torch.onnx.export(
        model,
        (sample,),
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    return _stamped(proto, metadata)


def _forget_origin(proto: Any) -> None:
    """Drop the exporter's notes: they name source files by their place on this machine, and double the size."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _stamped(proto: Any, metadata: Metadata) -> bytes:
    onnx_library().helper.set_model_props(proto, {KEY: metadata.to_json()})
    content: bytes = proto.SerializeToString()
    return content


def _torchscript(model: nn.Module, sample: torch.Tensor, metadata: Metadata) -> bytes:
    return _saved_script(torch.jit.trace(model, sample), metadata)  # type: ignore[no-untyped-call]


def _saved_script(script: Any, metadata: Metadata) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(script, buffer, _extra_files={_EXTRA: metadata.to_json()})
    return buffer.getvalue()


def _torch_export(model: nn.Module, sample: torch.Tensor, metadata: Metadata) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    return _saved_program(torch.export.export(model, (sample,), dynamic_shapes=({0: batch},), strict=False), metadata)


def _saved_program(program: Any, metadata: Metadata) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={_EXTRA: metadata.to_json()})
    return buffer.getvalue()
