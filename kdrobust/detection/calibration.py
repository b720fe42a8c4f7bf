"""Where a detector's threshold comes from: its scores on clean validation images, kept beside its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks.joint import log_odds
from kdrobust.detection.pairs import Pairs
from kdrobust.detection.roc import Scores, threshold_at
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models import file_hash
from kdrobust.tracking import write_json

FILE = "detector.json"
#: What a threshold is fixed on: images as they are, or also under the shifts that counted as clean in the training.
KINDS = ("clean", "natural")


@torch.no_grad()
def scores_of(
    detector: nn.Module, inputs: Tensor, *, batch_size: int = 500, device: torch.device | str = "cpu"
) -> Scores:
    """A detector's scores, [N] float64: the log-odds of "attacked"; in eval mode, its own mode is restored.

    Args:
        detector: inputs to logits [B, 2].
        inputs: [N, ...] in [0, 1].
        batch_size: inputs at once.
        device: where to compute.
    """
    training = detector.training
    detector.to(device).eval()
    try:
        parts = [log_odds(detector(part.to(device))).cpu() for part in torch.split(inputs, batch_size) if len(part)]
    finally:
        detector.train(training)
    return torch.cat([torch.empty(0), *parts]).double().numpy()


def write_calibration(folder: Path, detector: nn.Module, source: Pairs) -> dict[str, str]:
    """Keep a finished detector's scores on validation images nobody attacked beside its `best.ckpt`.

    Returns:
        What `result.json` lists under `files`.
    """
    as_they_are, *shifted = source.natural("validation")

    def scored(parts: Sequence[Tensor]) -> list[float]:
        found = np.sort(np.concatenate([np.empty(0), *(scores_of(detector, part) for part in parts)]))
        return [float(f"{score:.9g}") for score in found]

    content = {
        "schema": 1,
        "checkpoint": file_hash(folder / "best.ckpt"),
        "trained_on": source.describe(),
        "clean_validation_scores": scored([as_they_are]),
        "shifted_validation_scores": scored(shifted),
    }
    write_json(folder / FILE, content)
    return {"detector": FILE}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What fixes thresholds.

    Attributes:
        clean: scores of the validation images as they are, [N].
        shifted: of the same under the shifts of the training, [M]; empty where it had none.
        trained_on: attacks and surrogate of the training.
    """

    clean: Scores
    shifted: Scores
    trained_on: dict[str, Any]

    def scores(self, kind: str = "clean") -> Scores:
        """What a threshold is fixed on, one of `KINDS`.

        Raises:
            UsageError: `natural` shifts that the training did not have.
        """
        if kind == "clean":
            return self.clean
        if not len(self.shifted):
            raise UsageError("threshold_on=natural: the detector was trained without shifts; set threshold_on=clean")
        return np.concatenate([self.clean, self.shifted])

    def threshold(self, rate: float, kind: str = "clean") -> float:
        """See `threshold_at`."""
        return threshold_at(self.scores(kind), rate)


def read_calibration(checkpoint: str | Path) -> Calibration:
    """What `write_calibration` left beside a checkpoint.

    Raises:
        CheckpointError: nothing is there, it is damaged, or it belongs to another checkpoint.
    """
    path = Path(checkpoint).expanduser().parent / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        owner = str(found["checkpoint"])
        clean, shifted = (
            np.array(found[f"{kind}_validation_scores"], dtype=np.float64) for kind in ("clean", "shifted")
        )
        calibration = Calibration(clean=clean, shifted=shifted, trained_on=dict(found["trained_on"]))
    except FileNotFoundError:
        raise CheckpointError(
            f"{checkpoint}: no {FILE} beside it, which fixes the threshold; a detector is trained with data=detection"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: damaged; train the detector again") from None
    if any(scores.ndim != 1 or not np.isfinite(scores).all() for scores in (clean, shifted)):
        raise CheckpointError(f"{path}: damaged; train the detector again")
    if owner != file_hash(checkpoint):
        raise CheckpointError(f"{path}: belongs to another checkpoint than {checkpoint}; keep both files together")
    return calibration
