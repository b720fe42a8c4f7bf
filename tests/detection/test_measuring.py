"""Figures of one attack, what must not overlap with the training, and the checks of the adaptive attack."""

import re

import numpy as np
import pytest
import torch

from kdrobust.detection.measuring import Group, adaptive_checks, alarm_row, group_row, overlap
from tests import detectors

CLEAN = np.linspace(-1, 0, 100)
THRESHOLDS = [(0.01, -0.01), (0.05, -0.05)]


def group(attacked=60, eps=0.1, name="margin", norm="linf"):
    described = {"attack": "X", "threat": {"norm": norm, "eps": eps}}
    return Group(name=name, described=described, made_on="classifier", attacked=attacked, inputs=torch.empty(0))


def row(scores, **more):
    return group_row(group(**more), CLEAN, np.asarray(scores, dtype=float), THRESHOLDS, 0.95)


def test_a_row_by_hand():
    found = row([1.0] * 30 + [-2.0] * 10)
    assert found["auroc"] == pytest.approx(0.75)
    assert found["auroc_interval"][0] < 0.75 < found["auroc_interval"][1]
    assert (found["attacked"], found["fooling"], found["eps"], found["norm"]) == (60, 40, 0.1, "linf")
    at = found["at_fpr"]["0.05"]
    assert at["detected"]["share"] == 0.75
    assert (at["unnoticed"]["count"], at["unnoticed"]["n"]) == (10, 60)


def test_of_few_examples_no_area_is_given():
    found = row([1.0] * 19)
    assert found["auroc"] is found["average_precision"] is found["auroc_interval"] is None
    assert found["at_fpr"]["0.01"]["detected"]["share"] == 1.0
    assert row([])["at_fpr"]["0.01"]["detected"]["share"] is None


def test_false_alarms():
    found = alarm_row(CLEAN, THRESHOLDS, 0.95)
    assert [found[rate]["count"] for rate in ("0.01", "0.05")] == [1, 5]


@pytest.mark.parametrize(
    ("held_out", "made_on", "words"),
    [
        (detectors.attack(0.1, 9), {}, "attack new is of the kind of the training's pgd"),
        (detectors.attack(0.3, 1), {}, "attack new is of the kind of the training's fgsm"),
        (detectors.attack(0.25, 9, goal="margin"), {}, "threat.eps=0.25: attack new has an ε of the training"),
        (detectors.attack(0.1, 9, goal="margin"), {"evaluation.surrogates[0]": "surrogate"}, "surrogates.0.: is the"),
    ],
)
def test_what_the_detector_has_met_is_refused(pairs, held_out, made_on, words):
    digest = pairs.source.describe()["surrogate"]["sha256"]
    found = overlap(pairs.source, {"new": held_out.describe()}, dict.fromkeys(made_on, digest))
    assert len(found) == 1
    assert re.search(words, found[0])


def test_what_is_apart_is_not(pairs):
    attacks = {"new": detectors.attack(0.1, 9, goal="margin").describe()}
    assert overlap(pairs.source, attacks, {"data.source.classifier": "0" * 64}) == []
    # an ε of another norm is another ε
    attacks["new"]["threat"] = {"norm": "l2", "eps": 0.25}
    assert overlap(pairs.source, attacks, {}) == []


def failed(**more):
    def at(unnoticed, eps, **also):
        return row([1.0] * (60 - unnoticed) + [-2.0] * unnoticed, eps=eps, **also)

    given = {
        "held_out": [at(5, 0.1), at(20, 0.3)],
        "adaptive": [at(10, 0.1, name="adaptive"), at(30, 0.3, name="adaptive")],
        "box": at(60, 1.0),
        "longer": (at(30, 0.3), at(31, 0.3)),
        **{key: value(at) for key, value in more.items()},
    }
    return [check["name"] for check in adaptive_checks(**given, rate=0.05) if not check["passed"]]


def test_a_strong_adaptive_attack_passes():
    assert failed() == []


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"held_out": lambda at: [at(11, 0.1)]}, "D1"),
        ({"adaptive": lambda at: [at(40, 0.1), at(30, 0.3)]}, "D2"),
        ({"box": lambda at: at(50, 1.0)}, "D3"),
        ({"longer": lambda at: (at(30, 0.3), at(40, 0.3))}, "D4"),
    ],
)
def test_a_weak_one_is_told(more, name):
    assert failed(**more) == [name]


def test_another_norm_s_attacks_are_no_measure():
    assert failed(held_out=lambda at: [at(50, 0.1, norm="l2")]) == []
