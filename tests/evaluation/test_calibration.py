"""Calibration against a loop over bins, by hand, and on evaluations whose attacks say what they did."""

import dataclasses

import numpy as np
import pytest
import torch

from kdrobust.evaluation import calibration, calibrations, evaluate, merge
from kdrobust.evaluation.answers import answers


def by_loop(confidence, correct, bins):
    total, n = 0.0, len(confidence)
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = [i for i in range(n) if low < confidence[i] <= high or (place == 0 and confidence[i] == 0)]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / n * abs(accuracy - sure)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("n", [1, 7, 500])
def test_ece_is_that_of_a_loop(bins, n):
    draw = np.random.default_rng(n)
    confidence, correct = draw.random(n), draw.random(n) < 0.5
    found = calibration(confidence, correct, bins=bins)
    assert found.ece == pytest.approx(by_loop(confidence, correct, bins), abs=1e-12)
    assert sum(found.bin_counts) == found.n == n
    assert (found.accuracy, found.confidence) == pytest.approx((correct.mean(), confidence.mean()))


def test_ece_by_hand():
    # bin (0.8, 0.9]: accuracy 1/2 against 0.85; bin (0.5, 0.6]: 1 against 0.6
    found = calibration([0.8001, 0.8999, 0.6], [True, False, True], nll=[0.2, 2.3, 0.5], bins=10)
    assert found.ece == pytest.approx(2 / 3 * 0.35 + 1 / 3 * 0.4)
    assert found.nll == pytest.approx(1.0)
    assert found.bin_counts == (0, 0, 0, 0, 0, 1, 0, 0, 2, 0)
    assert found.bin_accuracy[8] == 0.5
    assert found.bin_accuracy[0] is found.bin_confidence[0] is None


def test_ends_have_bins_and_perfect_models_no_error():
    found = calibration([0.0, 1.0, 1.0 + 1e-6], [False, True, True], bins=4)
    assert found.bin_counts == (1, 0, 0, 2)
    assert found.ece == 0.0
    nothing = calibration([], [])
    assert (nothing.n, nothing.ece, nothing.nll, nothing.accuracy) == (0, None, None, None)


@pytest.mark.parametrize(
    ("confidence", "bins", "told"), [([1.5], 15, "probability"), ([np.nan], 15, "probability"), ([0.5], 0, "bins")]
)
def test_nonsense_is_refused(confidence, bins, told):
    with pytest.raises(ValueError, match=told):
        calibration(confidence, [True], bins=bins)
    with pytest.raises(ValueError, match="a verdict for every"):
        calibration([0.5, 0.5], [True])


def test_answers_are_those_of_softmax():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    found = answers(logits, torch.tensor([0, 0]))
    shares = logits.softmax(dim=1)
    assert found["predicted"].tolist() == [0, 1]
    assert found["confidence"].tolist() == pytest.approx(shares.max(dim=1).values.tolist())
    assert found["nll"].tolist() == pytest.approx((-shares[:, 0].log()).tolist())
    # a margin of 1000 is a finite loss
    assert answers(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))["nll"].item() == 1000.0


@pytest.fixture
def evaluation(digits, suite):
    data = {key: digits[key][:120] for key in ("inputs", "labels", "indices")}
    return evaluate(digits["models"]["cnn", 0.0], batch_size=50, seed=0, checks=False, **data, **suite(0.1))


def test_an_evaluation_is_calibrated_clean_and_attacked(evaluation, digits):
    found = calibrations(evaluation)
    assert list(found) == ["clean", "fgsm", "pgd", "worst_case"]
    logits = digits["models"]["cnn", 0.0](digits["inputs"][:120].float() / 255).detach()
    labels = digits["labels"][:120]
    sure = logits.softmax(dim=1).max(dim=1).values.numpy()
    right = (logits.argmax(dim=1) == labels).numpy()
    assert found["clean"].ece == pytest.approx(by_loop(sure, right, 15), abs=1e-6)
    assert found["clean"].nll == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    for name in ("fgsm", "pgd"):
        assert found[name].accuracy == evaluation.attacks[name].correct.mean()
        assert found[name].n == 120
    assert found["pgd"].ece > 2 * found["clean"].ece
    assert found["worst_case"].nll >= max(found["fgsm"].nll, found["pgd"].nll)


def test_worst_case_takes_each_samples_highest_loss(evaluation):
    losses = np.stack([outcome.extra["nll"] for outcome in evaluation.attacks.values()])
    losses = np.where(evaluation.clean, losses.max(axis=0), evaluation.answers["nll"])
    assert calibrations(evaluation)["worst_case"].nll == pytest.approx(losses.mean(), rel=1e-6)


def test_no_answers_and_minimum_norms_are_not_judged(evaluation):
    bare = dataclasses.replace(evaluation, answers={})
    assert set(calibrations(bare).values()) == {None}
    pgd = evaluation.attacks["pgd"]
    nearest = dataclasses.replace(pgd, spec={**pgd.spec, "minimum_norm": True})
    found = calibrations(dataclasses.replace(evaluation, attacks={"nearest": nearest}))
    assert found["clean"] is not None
    assert found["nearest"] is found["worst_case"] is None


def test_merging_keeps_the_answers(evaluation, digits, suite):
    model = digits["models"]["cnn", 0.0]
    parts = [
        evaluate(
            model, batch_size=50, seed=0, checks=False, **suite(0.1),
            **{key: digits[key][:120][rows] for key in ("inputs", "labels", "indices")},
        )
        for rows in (slice(0, 50), slice(50, 120), slice(0, 0))
    ]  # fmt: skip
    merged = merge(parts[::-1])
    assert merged.answers["predicted"].tolist() == evaluation.answers["predicted"].tolist()
    assert calibrations(merged)["pgd"].ece == pytest.approx(calibrations(evaluation)["pgd"].ece, abs=1e-6)
