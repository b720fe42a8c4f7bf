"""`kdrobust.load`: a model file in, something that predicts out. Imports nothing heavy before it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdrobust.serving import Student


def load(
    path: str | Path, *, trust: bool = False, trusted_modules: Sequence[str] = (), threads: int | None = None
) -> Student:
    """Open a trained model on the CPU.

    ```python
    student = kdrobust.load("outputs/export/NAME/model.onnx")
    prediction = student.predict(images)          # uint8, or floats in [0, 1]
    print(prediction.names, prediction.confidence)
    ```

    Args:
        path: a checkpoint (`best.ckpt`), or what `kdrobust export` wrote (`.onnx`, `.pt`, `.pt2`).
        trust: open `.pt` and `.pt2` too, which are code that runs with your rights. Checkpoints and ONNX files are
            read as data.
        trusted_modules: packages of your own that a checkpoint may name its network from, e.g. `["acme"]`.
        threads: of ONNX Runtime within an operation; None: its default. The other formats use torch's setting.

    Returns:
        A `kdrobust.serving.Student`.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of ours.
        UsageError: code that is not trusted, or a package that is not installed.
    """
    from kdrobust.serving import Student, open_runtime

    return Student(open_runtime(path, trust=trust, trusted_modules=trusted_modules, threads=threads))
