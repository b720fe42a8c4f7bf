"""`kdrobust predict MODEL input=...`: the command line of a trained model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import UsageError
from kdrobust.serving.words import count, packages, truth

_HELP = """kdrobust predict MODEL input=FILE|FOLDER|ARRAYS [output=FILE] [key=value ...]

  Classify images, or recordings, with a checkpoint (best.ckpt) or an exported model (.onnx, .pt, .pt2). MODEL may also
  be written as model=PATH. Inputs are read, answered and written a batch at a time, so that any number of them fits.

  input=       an image file, a folder with all below it, an .npz or an .npy (uint8, or floats in [0, 1]); for a model
               of sound wav files, brought to its rate, length and loudness as in training, or floats in [-1, 1]
  output=      FILE.csv, FILE.json or FILE.parquet; left out: CSV on standard output
               columns: input, class, name, confidence, p_<class> (the probability of each class)
  array=       which array of an .npz; left out: the only one, or x_test, x or images
  resize=      true: bring image files of another size to the model's (bilinear); else they are refused, as resizing
               moves accuracy and robustness. Grey and colour are converted to what the model takes
  batch_size=  images at once (256)
  trust=       true: open .pt and .pt2, which are code
  trusted_modules=  packages of your own that the checkpoint's network comes from, e.g. trusted_modules=[acme]
  threads=     CPU threads of ONNX Runtime or torch

Examples
  kdrobust predict outputs/distill/NAME/best.ckpt input=digit.png
  kdrobust predict outputs/export/NAME/model.onnx input=photos/ output=predictions.csv
  kdrobust predict model.onnx input=test.npz array=x_test output=predictions.parquet"""


@dataclass(kw_only=True)
class _Wish:
    model: str = ""
    input: str = ""
    output: str | None = None
    array: str | None = None
    resize: bool = False
    batch_size: int = 256
    trust: bool = False
    trusted_modules: tuple[str, ...] = ()
    threads: int | None = None


def main(arguments: Sequence[str] = ()) -> int:
    """Predict and write.

    Args:
        arguments: see `kdrobust predict --help`.

    Returns:
        0.

    Raises:
        UsageError: another argument, or an output that cannot be written.
        CheckpointError: a model that cannot be opened.
        DataError: images that cannot be read, or that the model does not take.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    wish = _parse(arguments)
    from kdrobust.serving.images import FileRecordings, open_images
    from kdrobust.serving.progress import Progress
    from kdrobust.serving.runtime import open_runtime
    from kdrobust.serving.student import Student
    from kdrobust.serving.tables import check_output, open_table

    check_output(wish.output)
    runtime = open_runtime(wish.model, trust=wish.trust, trusted_modules=wish.trusted_modules, threads=wish.threads)
    if wish.threads is not None and runtime.format != "onnx":
        import torch

        torch.set_num_threads(wish.threads)
    student = Student(runtime)
    told = student.metadata
    images = open_images(wish.input, told.shape, array=wish.array, resize=wish.resize, recordings=told.recordings)
    progress = Progress(len(images), task="predict", noun="predictions")
    with open_table(wish.output, student.class_names) as table:
        for names, pixels in images.batches(wish.batch_size):
            table.write(names, student.predict(pixels, batch_size=wish.batch_size))
            progress.add(len(names))
    progress.end(wish.output or "standard output")
    if isinstance(images, FileRecordings) and images.adapted:
        print(images.adaptation(), file=sys.stderr)
    return 0


def _parse(arguments: Sequence[str]) -> _Wish:
    wish, known = _Wish(), [field.name for field in fields(_Wish)]
    for word in arguments:
        key, equals, value = word.partition("=")
        if key.startswith("-"):
            raise UsageError(f"predict {word}: no such flag; write key=value, see `kdrobust predict --help`")
        if not equals or "/" in key:
            key, value = "model", word
            if wish.model:
                raise UsageError(f"predict {word}: one model at a time; images are given as input=...")
        if key not in known:
            close = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"predict {key}=: no such key{close}")
        if not value:
            raise UsageError(f"predict {key}=: a value is missing")
        setattr(wish, key, _value(key, value))
    if not wish.model:
        raise UsageError("predict: which model? e.g. kdrobust predict outputs/distill/NAME/best.ckpt input=digit.png")
    if not wish.input:
        raise UsageError("predict: classify what? set input=FILE|FOLDER|ARRAYS.npz")
    return wish


def _value(key: str, text: str) -> str | bool | int | tuple[str, ...]:
    if key == "trusted_modules":
        return packages("predict", key, text)
    if key in ("resize", "trust"):
        return truth("predict", key, text)
    if key in ("batch_size", "threads"):
        return count("predict", key, text)
    return text
