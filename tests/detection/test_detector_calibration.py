"""A threshold belongs to a checkpoint, and comes from clean validation images alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.detection.calibration import FILE, read_calibration, scores_of
from kdrobust.errors import CheckpointError, DataError, UsageError
from kdrobust.models import restore_classifier


@pytest.fixture
def kept(place, tmp_path):
    return shutil.copytree(place / "detector", tmp_path / "detector")


def test_it_holds_the_scores_of_the_clean_validation_images(place, pairs):
    model = restore_classifier(place / "detector" / "best.ckpt")
    inputs, _, _ = pairs.source.clean("validation")
    found = read_calibration(place / "detector" / "best.ckpt")
    assert (len(found.clean), len(found.shifted)) == (60, 120)
    assert np.allclose(found.clean, np.sort(scores_of(model, inputs)), atol=1e-6)
    assert found.trained_on["attacks"].keys() == {"fgsm", "pgd"}
    flagged = scores_of(model, inputs) > found.threshold(0.05) + 1e-6
    assert flagged.sum() <= 3
    with pytest.raises(DataError, match=r"fpr=0\.01: 60 clean validation inputs"):
        found.threshold(0.01)


def test_a_threshold_on_natural_images_flags_shifts_as_rarely(place, pairs, kept):
    model = restore_classifier(place / "detector" / "best.ckpt")
    found = read_calibration(place / "detector" / "best.ckpt")
    natural = np.concatenate([scores_of(model, part) for part in pairs.source.natural("validation")])
    threshold = found.threshold(0.05, "natural")
    assert len(natural) == len(found.scores("natural")) == 180
    assert (natural > threshold + 1e-6).sum() <= 9
    assert threshold != found.threshold(0.05)
    content = json.loads((kept / FILE).read_text())
    (kept / FILE).write_text(json.dumps({**content, "shifted_validation_scores": []}))
    with pytest.raises(UsageError, match="threshold_on=natural: the detector was trained without shifts"):
        read_calibration(kept / "best.ckpt").threshold(0.05, "natural")


def test_scores_are_log_odds_in_eval_mode():
    class Odd(nn.Module):
        def forward(self, inputs):
            return torch.stack([inputs[:, 0], 3 * inputs[:, 0] + float(self.training)], dim=1)

    model = Odd().train()
    inputs = torch.rand(11, 1)
    assert np.allclose(scores_of(model, inputs, batch_size=4), 2 * inputs[:, 0].double(), atol=1e-6)
    assert model.training
    assert scores_of(model, inputs[:0]).shape == (0,)


def test_nothing_beside_the_checkpoint(kept):
    (kept / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"no detector.json beside it, which fixes the threshold"):
        read_calibration(kept / "best.ckpt")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkpoint": "x", "clean_validation_scores": ["a"]}'])
def test_a_damaged_file(kept, content):
    (kept / FILE).write_text(content)
    with pytest.raises(CheckpointError, match=r"detector\.json: damaged; train the detector again"):
        read_calibration(kept / "best.ckpt")


def test_scores_that_are_no_numbers(kept):
    found = json.loads((kept / FILE).read_text())
    (kept / FILE).write_text(json.dumps({**found, "clean_validation_scores": [float("nan")]}))
    with pytest.raises(CheckpointError, match="damaged"):
        read_calibration(kept / "best.ckpt")


def test_another_checkpoint_s(kept):
    with (kept / "best.ckpt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="belongs to another checkpoint"):
        read_calibration(kept / "best.ckpt")
