"""Planted defences: every broken one is flagged, and named by the checks that must see it; honest models are not."""

import csv
import io
import re

import pytest
import torch
from torch import nn

from kdrobust.attacks import Threat
from kdrobust.errors import AttackError
from kdrobust.evaluation import evaluate, run_checks, to_result
from kdrobust.evaluation.checks import REGISTRY
from kdrobust.report import comparison_csv, comparison_markdown
from tests.evaluation import defences
from tests.evaluation.conftest import _digits, _small

THREAT = Threat(norm="linf", eps=0.1)


def training_set():
    inputs, labels = _digits()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    return inputs[order][:1200].float() / 255, labels[order][:1200]


@pytest.fixture(scope="module")
def trained(digits):
    """Further models of the digits: two honest ones, and one trained at temperature 100."""
    train, truth = training_set()
    losses = {
        "trades": (defences.trades(THREAT), 5, 5e-3),
        "distilled": (defences.distilled(THREAT, digits["models"]["cnn", 0.1]), 5, 5e-3),
        "temperature 100": (defences.hot, 8, 0.1),
    }
    models = {}
    with torch.random.fork_rng():
        for name, (loss, epochs, lr) in losses.items():
            torch.manual_seed(2)
            models[name] = defences.train(_small("cnn"), loss, train, truth, epochs=epochs, lr=lr)
    return models | {
        "standard": digits["models"]["cnn", 0.0],
        "adversarially trained": digits["models"]["cnn", 0.1],
        "linear": digits["models"]["linear", 0.0],
    }


@pytest.fixture
def few(digits):
    return {key: digits[key][:100] for key in ("inputs", "labels", "indices")}


def failing(model, data, suite, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        evaluation = evaluate(model.eval(), batch_size=120, seed=0, **data, **suite(0.1, steps=20, **changes))
    found = {check.id for check in evaluation.checks if check.verdict == "fail"}
    assert evaluation.unreliable == bool(found)
    assert [reason.split()[0] for reason in evaluation.reasons] == sorted(found, key=lambda id: int(id[1:]))
    return found, evaluation


@pytest.mark.parametrize(
    ("defence", "expected"),
    [
        ("Scaled", {"S2", "S3", "S4", "S6"}),
        ("Quantised", {"S2", "S3", "S4", "S5", "S6"}),
        ("Jpeg", {"S2", "S3", "S4", "S6"}),
        ("Binarised", {"S2", "S3", "S4", "S5", "S6"}),
        ("Detached", {"S2", "S3", "S4", "S6"}),
        ("Resized", {"S0", "S11", "S13"}),
        ("Dropped", {"S0", "S11", "S13"}),
        ("Flipped", {"S2", "S3", "S4", "S9", "S18"}),
        ("Scrambled", {"S2", "S9", "S18"}),
        ("Training", {"S0", "S11"}),
        ("Purified", {"S12"}),
    ],
)
def test_a_defence_that_only_hides_is_flagged(trained, few, suite, defence, expected):
    found, _ = failing(getattr(defences, defence)(trained["standard"]), few, suite)
    assert expected <= found


def test_an_unreliable_figure_is_so_wherever_it_is_shown(trained, few, suite):
    _, evaluation = failing(defences.Scaled(trained["standard"]), few, suite)
    result = to_result(evaluation)
    assert result["unreliable"] is True
    assert result["reasons"] == evaluation.reasons != []
    rows = [{"name": "masked", "results": [result]}]
    table = comparison_markdown(rows)
    assert "| masked † |" in table
    assert all(f"† masked: unreliable: {reason}" in table for reason in evaluation.reasons)
    assert {row["unreliable"] for row in csv.DictReader(io.StringIO(comparison_csv(rows)))} == {"true"}


def test_memory_instead_of_a_model_is_flagged(trained, few, suite):
    found, evaluation = failing(defences.Neighbour(*training_set()), few, suite)
    assert {"S3", "S4", "S6"} <= found
    pixels = few["inputs"].float() / 255
    found, evaluation = failing(defences.Memorised(trained["standard"], pixels, few["labels"]), few, suite)
    assert evaluation.clean.all()
    assert found == {"S17"}


def test_training_at_temperature_100_is_flagged(trained, few, suite):
    found, evaluation = failing(trained["temperature 100"], few, suite)
    assert evaluation.worst_case.mean() > 0.8
    assert {"S2", "S3", "S4", "S6"} <= found


@pytest.mark.parametrize("name", ["standard", "adversarially trained", "trades", "distilled", "linear"])
def test_honest_models_are_not(trained, digits, suite, name):
    data = {key: digits[key] for key in ("inputs", "labels", "indices")}
    evaluation = evaluate(trained[name], batch_size=300, seed=0, **data, **suite(0.1, steps=20))
    assert evaluation.reasons == []
    assert {check.id for check in evaluation.checks} == set(REGISTRY) >= {f"S{number}" for number in range(16)}
    warned = {check.id for check in evaluation.checks if check.verdict == "warn"}
    assert warned <= {"S1", "S2", "S7", "S8", "S10", "S13"}


def test_an_attack_that_keeps_its_successes_to_itself_is_flagged(trained, few, suite):
    attacks = suite(0.1, steps=20)
    attacks["attacks"]["pgd"] = defences.Reluctant(attacks["attacks"]["pgd"])
    evaluation = evaluate(trained["standard"], batch_size=120, seed=0, **few, **attacks)
    found = {check.id: check for check in evaluation.checks if check.verdict == "fail"}
    assert {"S1", "S13"} <= set(found)
    assert "of 16 survivors were broken when attacked again" in found["S13"].detail
    assert found["S13"].measured["replayed"]["pgd"]["not_repeated"] >= 8


def test_an_attack_with_other_bounds_is_flagged(trained, few, suite):
    attacks = suite(0.1, steps=20)
    attacks["attacks"]["pgd"] = defences.Outside(attacks["attacks"]["pgd"])
    evaluation = evaluate(trained["standard"], batch_size=120, seed=0, **few, **attacks)
    assert "pgd left [0, 1] by 0.05" in evaluation.reasons[0]


@pytest.mark.parametrize(
    ("scaled", "told"),
    [
        (lambda x: x.float(), r"inputs lie in \[0, 240\], not in \[0, 1\]"),
        (lambda x: x.float() / 127.5 - 1, r"inputs lie in \[-1, 0\.\d+\], not in \[0, 1\]"),
        (lambda x: x.float() / 255 / 255, "divided by 255 twice"),
        (lambda x: x.float() / 0, "not finite"),
    ],
)
def test_inputs_in_another_range_are_flagged_by_whoever_looks_first(trained, few, suite, scaled, told):
    data = {**few, "inputs": scaled(few["inputs"])}
    if "twice" not in told:
        with pytest.raises(AttackError):
            failing(trained["standard"], data, suite)
    evaluation = evaluate(trained["standard"], batch_size=120, seed=0, **data, threat=THREAT, attacks={})
    assert evaluation.reasons[0].startswith("S0 contract")
    assert re.search(told, evaluation.reasons[0])


def test_no_better_than_chance_is_a_warning(few, suite):
    class Blind(nn.Module):
        def forward(self, inputs):
            return torch.cat([inputs.flatten(1)[:, :9] * 1e-3, 1 + inputs.flatten(1)[:, 9:10]], dim=1)

    evaluation = evaluate(Blind(), batch_size=120, seed=0, **few, **suite(0.1))
    (contract,) = (check for check in evaluation.checks if check.id == "S0")
    assert contract.verdict == "warn"
    assert "no better than chance" in contract.detail


def test_the_same_verdicts_come_back(trained, few, suite):
    data = {key: value[:30] for key, value in few.items()}
    evaluation = evaluate(trained["distilled"], batch_size=120, seed=0, **data, **suite(0.1))
    again = run_checks(evaluation, trained["distilled"], **data)
    assert again == evaluation.checks
