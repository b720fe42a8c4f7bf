"""Reading a method's config: partners, balances, weightings, what the attack climbs."""

import pytest
import torch

from kdrobust.losses.method import read_method

CE = {"loss": "cross_entropy", "student": "clean"}
KL = {"loss": "soft_target", "student": "adversarial", "teacher": "clean"}


def problems(**method):
    return read_method(method).problems


def only(**method):
    found = problems(**method)
    assert len(found) == 1, found
    assert "\n" not in found[0]
    return found[0]


def test_terms_read_what_they_name():
    read = read_method({"temperature": 4.0, "terms": {"a": {**KL, "detach": "teacher"}, "b": CE}})
    assert read.problems == []
    assert {str(reference) for reference in read.terms["a"].references()} == {"student.adversarial", "teacher.clean"}
    assert next(r for r in read.terms["a"].references() if r.model == "teacher").detached
    assert read.terms["a"].loss.options["temperature"] == 4.0
    assert list(read.bound()) == ["a", "b"]


def test_a_term_that_never_counts_is_not_active_but_one_that_grows_is():
    grows = {"schedule": "linear", "start": 0, "end": 1, "until": 10}
    read = read_method({"terms": {"never": {**CE, "weight": 0}, "later": {**KL, "weight": grows}}})
    assert list(read.bound(active=True)) == ["later"]
    assert read.describe()["later"]["weight"] == grows


def test_sample_weights_are_bound_beside_their_terms():
    doubt = {"function": "doubt", "student": "clean"}
    read = read_method({"sample_weight": doubt, "terms": {"a": {**CE, "sample_weight": doubt}}})
    assert list(read.bound()) == ["a", "a.sample_weight", "sample_weight"]
    assert read.describe()["sample_weight"] == {"function": "doubt", "student": "student.clean"}
    assert "method.sample_weight: expected a mapping" in only(sample_weight="doubt", terms={"a": CE})


@pytest.mark.parametrize("given", [["peer"], "peer"])
def test_partners(given):
    peer = {"loss": "cross_entropy", "student": "peer.clean"}
    assert read_method({"partners": given, "terms": {"a": CE, "b": peer}}).partners == ("peer",)


@pytest.mark.parametrize("given", [["student"], ["a b"], [3]])
def test_partners_that_cannot_be(given):
    assert "method.partners: expected names other than student" in only(partners=given, terms={"a": CE})


def test_a_partner_nobody_reads():
    assert "method.partners: no term reads peer" in only(partners=["peer"], terms={"a": CE})


def test_a_weighting_wants_both_roles_and_then_lets_other_terms_stand_beside():
    weighting = {"function": "fixed", "student": "clean", "alpha": 0.3}
    assert "method.terms.a.role" in only(weighting=weighting, terms={"a": CE, "b": {**KL, "role": "knowledge"}})
    both = {"a": {**CE, "role": "prediction"}, "b": {**KL, "role": "knowledge"}}
    beside = read_method({"weighting": weighting, "terms": {**both, "c": KL}})
    assert (beside.problems, beside.terms["c"].role) == ([], None)
    read = read_method({"weighting": weighting, "terms": {"a": {**CE, "role": "prediction"}}})
    assert read.describe()["weighting"]["alpha"] == 0.3
    assert "method.weighting.function" in only(
        weighting={"function": "fixd"}, terms={"a": {**CE, "role": "prediction"}}
    )


BALANCE = {"function": "RelativeLossBalance", "terms": ["a", "b"]}


def test_a_balance_takes_numbers_at_construction_and_schedules_at_call():
    rate = {"schedule": "step", "start": 0.1, "milestones": [5], "factor": 0.1}
    read = read_method({"balance": {**BALANCE, "beta": 2, "rate": rate}, "terms": {"a": CE, "b": KL}})
    assert read.problems == []
    assert read.balance.module.beta == 2
    values = {"a": torch.tensor(1.0), "b": torch.tensor(1.0)}
    read.balance(values, 0.0)
    before = read.balance.module.weights.clone()
    values = {"a": torch.tensor(1.0), "b": torch.tensor(0.0)}
    early = float(read.balance(values, 0.0)["a"] - before[0])
    read.balance.module.weights = before
    late = float(read.balance(values, 6.0)["a"] - before[0])
    assert early == pytest.approx(10 * late)
    assert early == pytest.approx(0.1 * 0.5)
    said = {"function": "RelativeLossBalance", "terms": ["a", "b"], "beta": 2.0, "rate": rate}
    assert read.describe()["balance"] == said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"terms": ["a", "c"]}, "method.balance.terms: no term 'c'"),
        ({"function": "RelativeLosBalance"}, "method.balance.function: no balance"),
        ({"bta": 1.0}, "method.balance.bta"),
        ({"terms": ["a"]}, "method.balance: terms must name at least two"),
        ({"start": [0.9, 0.9]}, "method.balance: start"),
        ({"rate": {"schedule": "stp"}}, "method.balance.rate.schedule"),
    ],
)
def test_balances_that_cannot_be(change, words):
    assert words in only(balance={**BALANCE, **change}, terms={"a": CE, "b": KL})


def test_a_balance_of_a_term_that_never_counts():
    assert "b has weight 0" in only(balance=BALANCE, terms={"a": CE, "b": {**KL, "weight": 0.0}})
    assert "method.balance: expected a mapping" in only(balance="RelativeLossBalance", terms={"a": CE, "b": KL})


def test_what_the_attack_climbs_away_from():
    tempered = {"loss": "ClassTemperedTarget", "student": "adversarial", "teacher": "robust.clean"}
    read = read_method({"attack_target": "a", "terms": {"a": tempered}})
    assert read.attack_model == "robust"
    assert read.temper == read.terms["a"].loss.function.target
    named = read_method({"attack_target": "natural", "terms": {"a": CE, "b": {**KL, "teacher": "natural.clean"}}})
    assert (named.attack_model, named.temper) == ("natural", None)
    assert read_method({"terms": {"a": CE}}).attack_model == "teacher"
    assert "method.attack_target: no teacher or tempering term 'x'; known: teacher" in only(
        attack_target="x", terms={"b": KL}
    )


def test_shared_values_go_where_they_are_taken():
    found = problems(temperature=4.0, reduction="classes_mean", terms={"a": CE, "b": {**KL, "loss": "dkd"}})
    assert found == ["method.reduction: none of this method's losses takes it"]
    read = read_method({"logits_transform": "zscore", "terms": {"a": CE, "b": KL}})
    assert read.terms["a"].loss.transform is None  # the labels' loss compares no two models
    assert read.terms["b"].loss.transform is not None
    assert "method.logits_transform" in only(logits_transform="zscore", terms={"a": CE})
