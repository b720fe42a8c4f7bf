"""`kdrobust detect checkpoint=... input=... output=...`: the command line of a trained detector."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import UsageError
from kdrobust.serving.words import count, packages, truth

if TYPE_CHECKING:
    from kdrobust.detection.roc import Scores
    from kdrobust.serving.student import Student

_HELP = """kdrobust detect checkpoint=best.ckpt input=FOLDER|FILE|ARRAYS output=FILE [key=value ...]

  Score images with a detector of attacks (a best.ckpt trained on data=detection) and flag those above a threshold. Any
  number of them is read, scored and kept a batch at a time; a killed run goes on with the same command.

  checkpoint=  best.ckpt of `kdrobust teacher` or `kdrobust distill` on data=detection, its detector.json beside it
  input=       a folder with all below it, an image file, an .npz or an .npy (uint8, or floats in [0, 1])
  output=      FILE.csv or FILE.parquet (pyarrow): input, score (log-odds of "attacked"), flagged
  fpr=         the share of clean validation images that the threshold may flag (0.01)
  threshold_on=  clean (the default), or natural: validation images also under the shifts of the detector's training
  threshold=   a score instead; then fpr has no say
  array=       which array of an .npz; left out: the only one, or x_test, x or images
  resize=      true: bring image files of another size to the detector's (bilinear, itself a shift it may flag)
  batch_size=  images at once (512)
  threads=     CPU threads
  trusted_modules=  packages of your own that the checkpoint's networks come from, e.g. trusted_modules=[acme]

  An attacker who knows the detector passes it: see docs/detection.md and its evaluation.

Examples
  kdrobust detect checkpoint=outputs/distill/NAME/best.ckpt input=photos/ output=scores.parquet
  kdrobust detect checkpoint=best.ckpt input=test.npz array=x_test output=scores.csv fpr=0.05"""


@dataclass(kw_only=True)
class _Wish:
    checkpoint: str = ""
    input: str = ""
    output: str = ""
    fpr: float = 0.01
    threshold_on: str = "clean"
    threshold: float | None = None
    array: str | None = None
    resize: bool = False
    batch_size: int = 512
    threads: int | None = None
    trusted_modules: tuple[str, ...] = ()


def main(arguments: Sequence[str] = ()) -> int:
    """Score, flag and write.

    Args:
        arguments: see `kdrobust detect --help`.

    Returns:
        0.

    Raises:
        UsageError: another argument, an output that cannot be written, or a model that is no detector.
        CheckpointError: a detector that cannot be opened, or without what fixes its threshold.
        DataError: images that cannot be read, or that the detector does not take.
    """
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    wish = _parse(arguments)
    from kdrobust.config import trusting
    from kdrobust.detection.calibration import read_calibration
    from kdrobust.detection.pairs import CLASSES
    from kdrobust.detection.stream import Parts, check_scores_output, score_all, write_scores
    from kdrobust.models import file_hash
    from kdrobust.serving.images import open_images
    from kdrobust.serving.progress import Progress
    from kdrobust.serving.runtime import TorchModel
    from kdrobust.serving.student import Student
    from kdrobust.tracking import lock

    output = Path(wish.output).expanduser()
    check_scores_output(output)
    with trusting(wish.trusted_modules):
        student = Student(TorchModel.of_checkpoint(Path(wish.checkpoint).expanduser()))
    if student.class_names != CLASSES:
        raise UsageError(
            f"checkpoint={wish.checkpoint}: no detector (its classes are {', '.join(student.class_names[:4])} ...); "
            "train one with `kdrobust teacher experiment=detection/teacher`"
        )
    if wish.threshold is None:
        calibration = read_calibration(wish.checkpoint)
        threshold, count = (
            calibration.threshold(wish.fpr, wish.threshold_on),
            len(calibration.scores(wish.threshold_on)),
        )
        fixed = f"{wish.fpr:g} of {count} {wish.threshold_on} validation images may lie above it"
    else:
        threshold, fixed = wish.threshold, "given"
    if wish.threads is not None:
        import torch

        torch.set_num_threads(wish.threads)
    images = open_images(wish.input, student.metadata.shape, array=wish.array, resize=wish.resize)
    asked = {"checkpoint": file_hash(wish.checkpoint), "resize": wish.resize, "input": str(Path(wish.input).absolute())}
    with lock(output.with_name(f".{output.name}.parts")) as folder:
        parts = Parts(folder, json.dumps(asked, sort_keys=True))
        done = parts.find(images)
        if done:
            print(f"detect  {done} of {len(images)} images were scored by an earlier run", file=sys.stderr)
        progress = Progress(len(images), task="detect", noun="scores", done=done)
        score_all(
            images,
            lambda pixels: _log_odds(student, pixels, wish.batch_size),
            parts,
            start=done,
            batch_size=wish.batch_size,
            progress=progress.add,
        )
        progress.end(str(output))
        flagged = write_scores(output, images, parts, threshold)
    told = f"{flagged} of {len(images)} images flagged ({flagged / len(images):.2%})"
    print(f"{told}: score above {threshold:.4g} ({fixed})", file=sys.stderr)
    return 0


def _log_odds(student: Student, pixels: Any, batch_size: int) -> Scores:
    logits = student.predict(pixels, batch_size=batch_size).logits
    scores: Scores = logits[:, 1] - logits[:, 0]
    return scores


def _parse(arguments: Sequence[str]) -> _Wish:
    wish, known = _Wish(), [field.name for field in fields(_Wish)]
    for word in arguments:
        key, equals, value = word.partition("=")
        if key.startswith("-") or not equals:
            raise UsageError(f"detect {word}: write key=value, see `kdrobust detect --help`")
        if key not in known:
            close = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"detect {key}=: no such key{close}")
        if not value:
            raise UsageError(f"detect {key}=: a value is missing")
        setattr(wish, key, _value(key, value))
    for key, remedy in (
        ("checkpoint", "name a detector's best.ckpt"),
        ("input", "name a folder, an image, or an .npz"),
        ("output", "name a .csv or .parquet file"),
    ):
        if not getattr(wish, key):
            raise UsageError(f"detect: {key}= is missing; {remedy}")
    return wish


def _value(key: str, text: str) -> str | bool | int | float | tuple[str, ...]:
    if key == "trusted_modules":
        return packages("detect", key, text)
    if key == "resize":
        return truth("detect", key, text)
    if key == "threshold_on" and text not in ("clean", "natural"):
        raise UsageError(f"detect {key}={text}: expected clean or natural")
    if key in ("batch_size", "threads"):
        return count("detect", key, text)
    if key in ("fpr", "threshold"):
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or (key == "fpr" and not 0 < found < 1):
            expected = "a share between 0 and 1" if key == "fpr" else "a number"
            raise UsageError(f"detect {key}={text}: expected {expected}")
        return found
    return text
