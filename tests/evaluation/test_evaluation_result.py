"""Results as data: the schema, the figures recomputed from the samples, the suites' configs."""

import copy
import json

import numpy as np
import pytest

from kdrobust.config import compose, instantiate, numbers
from kdrobust.errors import RunFolderError
from kdrobust.evaluation import evaluate, per_sample, to_result, validate, wilson, write_evaluation
from kdrobust.evaluation.result import schema


@pytest.fixture
def evaluation(fixture_model, fixture_data, suite):
    return evaluate(fixture_model(rounded=True), batch_size=4, seed=3, **fixture_data, **suite())


def test_result_says_what_ran_and_what_came_out(evaluation):
    result = to_result(evaluation, confidence=0.9)
    assert result["threat"] == {"norm": "linf", "eps": 0.05, "bounds": [0.0, 1.0]}
    assert list(result["attacks"]) == result["worst_case"]["over"] == ["fgsm", "pgd"]
    assert result["attacks"]["pgd"]["spec"]["steps"] == 10
    assert result["clean"]["correct"] == 6
    assert result["clean"]["accuracy"] == 0.75
    assert result["clean"]["interval"] == pytest.approx(wilson(6, 8, 0.9))
    assert (result["n"], result["seed"], result["batch_size"]) == (8, 3, 4)
    assert result["unreliable"] is True
    assert result["reasons"]
    assert {"id", "name", "definition", "verdict", "detail", "measured"} == set(result["checks"][0])
    assert "torch" in result["versions"]


def test_files_carry_the_same_figures_twice(evaluation, tmp_path):
    result = write_evaluation(tmp_path, evaluation)
    read = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    validate(read)
    assert read == json.loads(json.dumps(result))
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as samples:
        answers = {f"{name}/{key}" for name in ("clean", "fgsm", "pgd") for key in ("predicted", "confidence", "nll")}
        columns = {"indices", "labels", "clean", "fgsm", "pgd", "worst_case", "fgsm/distance", "pgd/distance"}
        assert set(samples.files) == columns | answers
        for name in ("fgsm", "pgd"):
            assert samples[name].dtype == bool
            assert int(samples[name].sum()) == read["attacks"][name]["correct"]
        assert int(samples["worst_case"].sum()) == read["worst_case"]["correct"]
        assert samples["indices"].tolist() == list(range(8))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evaluation.json", "samples.npz"]


def test_no_samples_are_no_accuracy(fixture_model, fixture_data, suite):
    none = {key: value[:0] for key, value in fixture_data.items()}
    result = to_result(evaluate(fixture_model(), batch_size=4, seed=0, **none, **suite()))
    assert result["clean"] == {"correct": 0, "n": 0, "accuracy": None, "interval": [0.0, 1.0]}
    assert result["unreliable"] is False


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["version"], 2, "version"),
        (["clean", "accuracy"], 75.0, "clean.accuracy|clean"),
        (["attacks", "pgd", "spec", "threat", "norm"], "l7", "norm"),
        (["checks", 0, "verdict"], "fine", "verdict"),
        (["surprise"], 1, "surprise"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(evaluation, path, value, told):
    result = copy.deepcopy(to_result(evaluation))
    at = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(RunFolderError, match=told):
        validate(result)


def test_every_field_of_the_schema_is_required_and_the_schema_is_one():
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(schema())
    assert set(schema()["required"]) == set(schema()["properties"])


def test_verdicts_and_results_hide_no_attack_name(evaluation):
    answers = ("predicted", "confidence", "nll")
    numbers = [f"{name}/{key}" for name in ("fgsm", "pgd") for key in ("distance", *answers)]
    numbers += [f"clean/{key}" for key in answers]
    assert list(per_sample(evaluation)) == ["indices", "labels", "clean", "fgsm", "pgd", *numbers, "worst_case"]


@pytest.mark.parametrize(("name", "attacks"), [("quick", 2), ("standard", 3), ("fast", 3)])
def test_the_suites_compose_and_run(name, attacks, fixture_model, fixture_data):
    cfg = compose("evaluate", [f"evaluation={name}", "threat.eps=0.05", "seed=7", "checkpoint=x.ckpt"])
    suite = numbers(cfg.evaluation)
    assert suite["seed"] == 7
    assert suite["checks"] is True
    assert suite["num_samples"] == (1000 if name == "quick" else None)
    built = instantiate(cfg.evaluation.attacks)
    assert len(built) == attacks
    evaluation = evaluate(
        fixture_model(),
        batch_size=8,
        seed=0,
        **fixture_data,
        threat=instantiate(cfg.threat),
        attacks=built,
        checks=False,
    )
    result = to_result(evaluation)
    assert result["attacks"]["fgsm"]["spec"]["step_size"] == 0.05
    assert result["attacks"]["pgd20"]["spec"]["step_size"] == pytest.approx(0.0125)
    assert result["worst_case"]["correct"] == 1


def test_what_stands_beside_the_accuracies_is_that_of_the_samples(fixture_model, fixture_data, suite, tmp_path):
    evaluation = evaluate(fixture_model(), batch_size=4, seed=3, checks=False, **fixture_data, **suite())
    result = write_evaluation(tmp_path, evaluation, confidence=0.9)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        samples = dict(file)
    assert result["w_robust"] == (samples["clean"].mean() + samples["worst_case"].mean()) / 2
    found = result["per_class"]
    assert found["labels"] == sorted(set(samples["labels"].tolist()))
    for place, label in enumerate(found["labels"]):
        members = samples["labels"] == label
        assert found["n"][place] == members.sum()
        columns = (found["clean"], found["attacks"]["pgd"], found["worst_case"])
        for name, figures in zip(("clean", "pgd", "worst_case"), columns, strict=True):
            hits = int(samples[name][members].sum())
            assert figures["correct"][place] == hits
            assert (figures["low"][place], figures["high"][place]) == wilson(hits, int(members.sum()), 0.9)
    for name in ("clean", "pgd"):
        calibrated = result["calibration"]["clean"] if name == "clean" else result["calibration"]["attacks"][name]
        seen = np.where(samples["clean"], samples[f"{name}/nll"], samples["clean/nll"])
        assert calibrated["nll"] == pytest.approx(seen.mean(), rel=1e-6)
        assert sum(calibrated["bin_counts"]) == calibrated["n"] == 8
    assert result["curves"] == {}


def test_no_samples_have_no_further_figures(fixture_model, fixture_data, suite):
    none = {key: value[:0] for key, value in fixture_data.items()}
    result = to_result(evaluate(fixture_model(), batch_size=4, seed=0, checks=False, **none, **suite()))
    assert result["w_robust"] is None
    assert result["per_class"]["labels"] == []
    assert result["per_class"]["worst_case"]["worst"] is None
    assert result["calibration"]["clean"] is None


def test_an_attack_of_several_says_who_broke_how_many(fixture_model, fixture_data, suite):
    from kdrobust.attacks import APGD, Cascade

    threat = suite()["threat"]
    members = {"ce": APGD(threat=threat, steps=5), "dlr": APGD(threat=threat, goal="dlr", steps=5)}
    arguments = {**fixture_data, **suite(), "attacks": {"both": Cascade(threat=threat, attacks=members)}}
    evaluation = evaluate(fixture_model(), batch_size=4, seed=0, checks=False, **arguments)
    entry = to_result(evaluation)["attacks"]["both"]
    assert list(entry["broken_by"]) == ["ce", "dlr"]
    assert sum(entry["broken_by"].values()) == int((evaluation.clean & ~evaluation.attacks["both"].correct).sum())
