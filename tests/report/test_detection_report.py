"""A detector's table never comes without the adaptive attack, and says what it does not know."""

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image

from kdrobust.detection.measuring import Group, alarm_row, group_row
from kdrobust.report import detection_csv, detection_markdown, detection_plot

THRESHOLDS = [(0.01, 1.0), (0.05, 0.9)]
CLEAN = np.linspace(-1, 1.005, 100)


def row(name, eps, scores):
    described = {"attack": "X", "threat": {"norm": "linf", "eps": eps}}
    group = Group(name=name, described=described, made_on="classifier", attacked=50, inputs=torch.empty(0))
    return group_row(group, CLEAN, np.asarray(scores, dtype=float), THRESHOLDS, 0.95)


@pytest.fixture
def rows():
    shifts = [
        {"shift": "fog", "severity": 2, "trained": False, "at_fpr": alarm_row(CLEAN + 0.5, THRESHOLDS, 0.95)},
        {"shift": "contrast", "severity": 2, "trained": True, "at_fpr": alarm_row(CLEAN, THRESHOLDS, 0.95)},
    ]
    found = {
        "n": 100,
        "confidence": 0.95,
        "thresholds": [{"fpr": rate, "threshold": at, "on": "clean", "n": 80} for rate, at in THRESHOLDS],
        "clean": alarm_row(CLEAN, THRESHOLDS, 0.95),
        "attacks": [row("margin", 0.1, [2.0] * 30), row("square", 0.1, [2.0] * 3)],
        "adaptive": [row("adaptive", 0.1, [-2.0] * 30), row("adaptive", 0.3, [-2.0] * 50)],
        "shifts": shifts,
        "checks": [{"name": "D1", "passed": True, "text": "strong"}, {"name": "D2", "passed": False, "text": "weak"}],
    }
    return [{"name": "teacher", "results": [{"detection": found}]}]


def test_markdown(rows):
    text = detection_markdown(rows)
    lines = text.splitlines()
    assert lines[0] == "### teacher"
    assert "| margin | linf 0.1 | classifier | 30 of 50 | 1.000 [0.9" in text
    # three examples say nothing about an area
    assert any(line.startswith("| square |") and "| 3 of 50 | – | – | 100.0 [" in line for line in lines)
    assert any(line.startswith("| **adaptive** | linf 0.3 |") and "0.000 [0.000–0.0" in line for line in lines)
    assert "Thresholds of 80 clean validation images. Clean test images flagged (n = 100)" in text
    assert "| contrast (in training) | 2 |" in text
    assert "- D1 passed: strong" in text
    assert "- D2 FAILED: weak" in text
    width = {line.count("|") for line in lines if line.startswith(("| attack", "| margin", "| **adaptive"))}
    assert len(width) == 1


def test_csv(rows):
    found = list(csv.DictReader(io.StringIO(detection_csv(rows))))
    assert [line["attack"] for line in found] == ["margin", "square", "adaptive", "adaptive"]
    assert float(found[0]["auroc"]) == 1.0
    assert found[1]["auroc"] == found[1]["auroc_low"] == ""
    assert float(found[3]["unnoticed_at_0.05"]) == 1.0
    assert float(found[0]["detected_at_0.01_low"]) < 1.0


def test_plot(rows, tmp_path):
    detection_plot([*rows, {**rows[0], "name": "student"}], tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > image.height > 900
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert (0xD5, 0x5E, 0x00) in colours
    # without shifts there is a bar of the clean images alone
    rows[0]["results"][0]["detection"]["shifts"] = []
    detection_plot(rows, tmp_path / "two.png")
    assert (tmp_path / "two.png").exists()
