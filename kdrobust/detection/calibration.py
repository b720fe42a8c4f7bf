"""Where a detector's threshold comes from: its scores on clean validation images, kept beside its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks.joint import log_odds
from kdrobust.detection.pairs import Pairs
from kdrobust.detection.roc import Scores, threshold_at
from kdrobust.errors import CheckpointError
from kdrobust.models import file_hash
from kdrobust.tracking import write_json

FILE = "detector.json"


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
    """Keep a finished detector's scores on the clean validation images beside its `best.ckpt`.

    Returns:
        What `result.json` lists under `files`.
    """
    inputs, _, _ = source.clean("validation")
    found = np.sort(scores_of(detector, inputs))
    content = {
        "schema": 1,
        "checkpoint": file_hash(folder / "best.ckpt"),
        "trained_on": source.describe(),
        "clean_validation_scores": [float(f"{score:.9g}") for score in found],
    }
    write_json(folder / FILE, content)
    return {"detector": FILE}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What fixes thresholds.

    Attributes:
        scores: of the clean validation images, [N], ascending.
        trained_on: attacks and surrogate of the training.
    """

    scores: Scores
    trained_on: dict[str, Any]

    def threshold(self, rate: float) -> float:
        """See `threshold_at`."""
        return threshold_at(self.scores, rate)


def read_calibration(checkpoint: str | Path) -> Calibration:
    """What `write_calibration` left beside a checkpoint.

    Raises:
        CheckpointError: nothing is there, it is damaged, or it belongs to another checkpoint.
    """
    path = Path(checkpoint).expanduser().parent / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        owner = str(found["checkpoint"])
        scores = np.array(found["clean_validation_scores"], dtype=np.float64)
        calibration = Calibration(scores=scores, trained_on=dict(found["trained_on"]))
    except FileNotFoundError:
        raise CheckpointError(
            f"{checkpoint}: no {FILE} beside it, which fixes the threshold; a detector is trained with data=detection"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: damaged; train the detector again") from None
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise CheckpointError(f"{path}: damaged; train the detector again")
    if owner != file_hash(checkpoint):
        raise CheckpointError(f"{path}: belongs to another checkpoint than {checkpoint}; keep both files together")
    return calibration
