"""Opening a model file, whatever its format, as something that answers arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.serving.metadata import KEY, Metadata

Floats = npt.NDArray[np.float32]
#: File name ending to the format `kdrobust export` gives it; any other file is a checkpoint.
FORMATS = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "torch_export"}
#: Formats whose files are programs of PyTorch: opening one may run what its author wanted.
CODE = ("torchscript", "torch_export")
#: Quantisations that scale activations by a batch's own range: asked one sample at a time, so that what stands beside
#: a sample does not change its answer.
_BY_BATCH = ("dynamic_int8",)
_EXTRA = f"{KEY}.json"


class Runtime(Protocol):
    """A model that is ready to answer.

    Attributes:
        metadata: what it says about itself.
        format: `checkpoint`, `onnx`, `torchscript` or `torch_export`.
    """

    metadata: Metadata
    format: str

    def answer(self, pixels: Floats) -> Floats:
        """Logits [B, K] of inputs in the metadata's range, [B, *shape] float32."""
        ...


def open_runtime(
    path: str | Path, *, trust: bool = False, trusted_modules: Sequence[str] = (), threads: int | None = None
) -> Runtime:
    """Open a checkpoint or an exported file on the CPU.

    Args:
        path: `best.ckpt`, or a `.onnx`, `.pt` or `.pt2` of `kdrobust export`.
        trust: whether to open `.pt` and `.pt2`, which are code.
        trusted_modules: packages of the user's own that a checkpoint may name its network from.
        threads: of ONNX Runtime within an operation; None: its default. The other formats use torch's setting.

    Raises:
        CheckpointError: it is missing, damaged, or not one of ours.
        UsageError: code that is not trusted, or a package that is not installed.
    """
    place = Path(path).expanduser()
    kind = FORMATS.get(place.suffix.lower(), "checkpoint")
    if place.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the model file in it, such as best.ckpt or model.onnx")
    if not place.is_file():
        raise CheckpointError(f"{path}: no such model file")
    if kind in CODE and not trust:
        raise UsageError(
            f"{path}: this format is code that runs with your rights; if you know where it comes from, set trust=true "
            "(ONNX files and checkpoints are data and need no trust)"
        )
    if kind == "onnx":
        return OnnxModel(place, threads=threads)
    if kind == "checkpoint":
        from kdrobust.config import trusting

        with trusting(trusted_modules):
            return TorchModel.of_checkpoint(place)
    return TorchModel.of_script(place) if kind == "torchscript" else TorchModel.of_program(place)


class OnnxModel:
    """An ONNX file in ONNX Runtime on the CPU; needs no torch. `dynamic_int8` is asked sample by sample.

    Args:
        path: the file.
        threads: within an operation; None: ONNX Runtime's default.

    Raises:
        CheckpointError: damaged, or without our metadata.
        UsageError: onnxruntime is not installed.
    """

    format = "onnx"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        runtime = onnx_runtime(str(path))
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            inputs, outputs = session.get_inputs(), session.get_outputs()
            told = session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # onnxruntime's own exceptions share no base but this
            reason = " ".join(str(error).split())
            if "xternal data" in reason or "external_data" in reason:
                # the runtime reads these from the model's own folder and from nowhere else
                raise CheckpointError(f"{path}: its external data cannot be read ({reason[-200:]})") from None
            raise CheckpointError(f"{path}: damaged or no ONNX file ({type(error).__name__})") from None
        self.metadata = Metadata.from_json(told, path)
        if len(inputs) != 1 or len(outputs) != 1:
            raise CheckpointError(f"{path}: takes {len(inputs)} inputs and gives {len(outputs)} outputs; expected one")
        self._session = session
        self._names = inputs[0].name, outputs[0].name

    def answer(self, pixels: Floats) -> Floats:
        """Logits [B, K] of inputs in the metadata's range, [B, *shape] float32."""
        given, wanted = self._names
        if self.metadata.quantize not in _BY_BATCH or len(pixels) < 2:
            logits: Floats = self._session.run([wanted], {given: pixels})[0]
            return logits
        return np.concatenate([self._session.run([wanted], {given: pixel[np.newaxis]})[0] for pixel in pixels])


class TorchModel:
    """A module of PyTorch on the CPU.

    Args:
        module: inputs in [0, 1] to logits, in eval mode.
        metadata: what it says about itself.
        format: see `Runtime`.
    """

    def __init__(self, module: Any, *, metadata: Metadata, format: str) -> None:
        self.module = module
        self.metadata = metadata
        self.format = format

    @classmethod
    def of_checkpoint(cls, path: Path) -> TorchModel:
        """One of our checkpoints, read as data.

        Raises:
            CheckpointError: see `kdrobust.models.restore_classifier`.
        """
        from kdrobust.models import file_hash, read_checkpoint, restore_classifier, stored_spec

        checkpoint = read_checkpoint(path)
        spec = stored_spec(checkpoint)
        metadata = Metadata(
            shape=spec.shape,
            class_names=spec.class_names or tuple(str(label) for label in range(spec.classes)),
            value_range=spec.bounds,
            sample_rate=spec.sample_rate,
            peak=spec.peak,
            threat=checkpoint["kdrobust"].get("threat") or {},
            checkpoint=file_hash(path),
        )
        return cls(restore_classifier(path, checkpoint).eval(), metadata=metadata, format="checkpoint")

    @classmethod
    def of_script(cls, path: Path) -> TorchModel:
        """A file of `torch.jit.save`: code.

        Raises:
            CheckpointError: damaged, or without our metadata.
        """
        import warnings

        import torch

        extra = {_EXTRA: ""}
        try:
            with warnings.catch_warnings():
                # of torch.jit's deprecation: whoever has such a file can do nothing about it here
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                module = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(path), map_location="cpu", _extra_files=extra
                )
        except (RuntimeError, ValueError, OSError) as error:
            raise CheckpointError(f"{path}: damaged or no TorchScript file ({type(error).__name__})") from None
        return cls(module.eval(), metadata=Metadata.from_json(extra[_EXTRA], path), format="torchscript")

    @classmethod
    def of_program(cls, path: Path) -> TorchModel:
        """A file of `torch.export.save`: code.

        Raises:
            CheckpointError: damaged, or without our metadata.
        """
        import torch

        extra = {_EXTRA: ""}
        try:
            program = torch.export.load(str(path), extra_files=extra)
        except Exception as error:  # whatever the archive's readers stumble over
            raise CheckpointError(f"{path}: damaged or no torch.export file ({type(error).__name__})") from None
        return cls(program.module(), metadata=Metadata.from_json(extra[_EXTRA], path), format="torch_export")

    def answer(self, pixels: Floats) -> Floats:
        """Logits [B, K] of inputs in the metadata's range, [B, *shape] float32."""
        import torch

        with torch.inference_mode():
            logits: Floats = self.module(torch.from_numpy(pixels)).float().numpy()
        return logits


def onnx_runtime(what: str) -> Any:
    """The package onnxruntime.

    Args:
        what: the key or file that needs it, for the error message.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(f"{what}: needs onnxruntime; pip install 'kdrobust[export]'") from None
    return onnxruntime
