"""All figures of an evaluation in one call, from its result alone."""

import json

import pytest
import torch

from kdrobust.attacks import AttackResult, Threat
from kdrobust.evaluation import corruption_result, evaluate, evaluate_corruptions, to_result
from kdrobust.report import curves_of, evaluation_figures


class Linear(torch.nn.Module):
    """Says class 1 where the mean pixel is above one half."""

    def forward(self, inputs):
        mean = inputs.flatten(1).mean(dim=1)
        return 20 * torch.stack([0.5 - mean, mean - 0.5], dim=1)


class Nearest:
    """The exact minimum-norm attack on it."""

    def __init__(self, threat):
        self.threat = threat

    def run(self, model, inputs, labels, *, keys, seed):
        need = 0.5 - inputs.flatten(1).mean(dim=1)
        moved = inputs + (need + 1e-4 * need.sign()).view(-1, 1, 1, 1)
        zeros = torch.zeros(len(labels))
        return AttackResult(
            adversarial=moved, goal_start=zeros, goal_end=zeros, fooled=torch.ones(len(labels), dtype=torch.bool)
        )

    def describe(self):
        return {"attack": "Nearest", "minimum_norm": True, "threat": self.threat.describe()}


@pytest.fixture
def measured():
    levels = torch.linspace(0.3, 0.7, 20)
    data = {"inputs": levels.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous(), "labels": (levels > 0.5).long()}
    data["indices"] = torch.arange(20)
    threat = Threat(norm="linf", eps=0.1)
    found = evaluate(
        Linear(), **data, threat=threat, attacks={"nearest": Nearest(threat)}, batch_size=8, seed=0, checks=False
    )
    names = ["contrast", "brightness"]
    corrupted = corruption_result(evaluate_corruptions(Linear(), *data.values(), names=names))
    return json.loads(json.dumps(to_result(found))), json.loads(json.dumps(corrupted))


def test_everything_that_has_numbers_is_drawn(measured, tmp_path):
    result, corrupted = measured
    files = evaluation_figures(result, tmp_path, name="student", classes=2, corruptions=corrupted)
    # a minimum-norm attack leaves no confidence to judge by; the clean one is drawn
    assert files == {
        "classes": "classes.png",
        "calibration": "calibration.png",
        "security": "security.png",
        "corruptions": "corruptions.png",
    }
    for name in files.values():
        assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(files.values())


def test_the_exact_curve_is_the_models(measured):
    (entry,) = curves_of(measured[0], name="student")
    curve = entry["curve"]
    # distances are |level - 1/2|: two of each, from 0.0105 to 0.2
    assert curve["clean"] == 1.0
    assert curve["accuracy"][25] == 0.5
    assert curve["eps50"] == pytest.approx(0.0948 + 1e-4, abs=2e-3)
    assert entry["unreliable"] is False


def test_checks_that_attacked_at_several_radii_give_points(measured):
    result = measured[0]
    numbers = {"norm": "linf", "eps": [0.0, 0.1, 1.0], "correct": [20, 9, 0], "n": 20}
    check = {"id": "S4", "verdict": "fail", "measured": numbers}
    result |= {"checks": [check, {"measured": {"eps": 1.0, "n": 3}}, {"measured": {**numbers, "norm": "l2"}}]}
    result["unreliable"] = True
    exact, points = curves_of(result, name="m")
    assert exact["unreliable"] is points["unreliable"] is True
    assert points["curve"].accuracy == (1.0, 0.45, 0.0)


def test_without_samples_nothing_is_drawn(tmp_path):
    threat = Threat(norm="linf", eps=0.1)
    none = {"inputs": torch.zeros(0, 1, 8, 8), "labels": torch.zeros(0, dtype=torch.long), "indices": torch.arange(0)}
    found = evaluate(Linear(), **none, threat=threat, attacks={}, batch_size=8, seed=0, checks=False)
    corrupted = corruption_result(evaluate_corruptions(Linear(), *none.values()))
    assert evaluation_figures(to_result(found), tmp_path, corruptions=corrupted) == {}
    assert list(tmp_path.iterdir()) == []
