"""The covering set: every option occurs, every pair does or is excluded by a rule, and the rules are the program's own."""

import functools
import json

import pytest
import torch

from kdrobust.cli import main
from kdrobust.config import compose
from kdrobust.errors import KdrobustError
from kdrobust.stages.setup import check_method
from kdrobust.stages.teachers import teacher_problems
from tests.combinations import command, commands, judging, running, scanning
from tests.combinations.covering import Factor, Option, Rule, cover, pairs_of, required
from tests.combinations.factors import MATERIALS, factors
from tests.combinations.materials import make
from tests.combinations.processes import Ended
from tests.combinations.rules import RULES

GROUPS = {
    "method": "method", "data": "data", "model": "student", "threat": "threat", "attack": "attack", "optimizer": "optimizer",
    "scheduler": "scheduler", "trainer": "trainer", "callbacks": "callbacks", "logger": "logger", "wrap": "wrap",
    "features": "features", "average": "average", "weighting": "weighting", "evaluation": "evaluation",
}  # fmt: skip


@functools.cache
def found():
    return command.covering()


def test_every_pair_occurs_or_is_excluded_by_a_rule():
    wanted = set(required(factors()))
    assert wanted == found().covered | set(found().excluded)
    assert not found().covered & set(found().excluded)
    assert set(found().excluded.values()) <= {rule.why for rule in RULES}
    assert len(found().combinations) < 100
    for chosen in found().combinations:
        for rule in RULES:
            assert not rule.forbids(*(chosen[name] for name in rule.factors)), rule.why


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_conf_occurs_or_says_why_not(group):
    factor = next(factor for factor in factors() if factor.name == GROUPS[group])
    occur = {chosen[factor.name].name for chosen in found().combinations}
    assert {option.name for option in factor.options} <= occur
    assert set(scanning.options(group)) <= occur | set(factor.left_out)
    assert not occur & set(factor.left_out)


def test_the_same_combinations_at_every_call():
    again = command.covering()
    assert [command.described(each) for each in again.combinations] == [
        command.described(each) for each in found().combinations
    ]


def simple(**values):
    return [Factor(name=name, options=tuple(Option(name=each) for each in options)) for name, options in values.items()]


def test_far_fewer_than_all_and_no_pair_missing():
    factors = simple(**dict.fromkeys(("one", "two", "three", "four", "five", "six"), "abc"))
    covering = cover(factors, [])
    # 3^6 are 729; the least is 11 to 13
    assert len(covering.combinations) <= 20
    brought = {pair for each in covering.combinations for pair in pairs_of(each, factors)}
    assert brought == set(required(factors))
    assert len(brought) == 6 * 3 + 15 * 9


def test_a_pair_that_a_rule_excludes_by_way_of_a_third_is_excluded_with_its_reason():
    factors = simple(one="ab", two="xy", three="pq")
    rules = [
        Rule(why="no a with p", factors=("one", "three"), forbids=lambda one, three: one.name + three.name == "ap"),
        Rule(why="no x with q", factors=("two", "three"), forbids=lambda two, three: two.name + three.name == "xq"),
    ]
    covering = cover(factors, rules)
    # a needs q, which x does not go with
    assert {pair for pair in covering.excluded if pair[0] != pair[1]} == {
        (("one", "a"), ("three", "p")), (("two", "x"), ("three", "q")), (("one", "a"), ("two", "x")),
    }  # fmt: skip
    assert set(covering.excluded.values()) == {"no a with p", "no x with q"}


def accepted(chosen):
    arguments = commands.training(chosen, "runs/distill/000")
    check_method(compose("distill", arguments[1:]), teachers=teacher_problems)


@pytest.mark.parametrize("number", range(0, 60, 12))
def test_a_combination_is_accepted_before_data_are_looked_at(number):
    accepted(found().combinations[number])


@pytest.mark.slow
def test_all_combinations_are_accepted_before_data_are_looked_at():
    for chosen in found().combinations:
        accepted(chosen)


def broken(rule):
    """A combination of the set with the options that a rule forbids, and breaks no other."""
    by_name = {factor.name: factor for factor in factors()}
    for chosen in found().combinations:
        for changed in rule.factors:
            for option in by_name[changed].options:
                other = {**chosen, changed: option}
                broke = [each for each in RULES if each.forbids(*(other[name] for name in each.factors))]
                if broke == [rule]:
                    return other
    raise AssertionError(rule.why)


def refused_by(what):
    rules = [rule for rule in RULES if rule.refused == what]
    return pytest.mark.parametrize("rule", rules, ids=[f"{', '.join(rule.factors)}: {rule.why}" for rule in rules])


@refused_by("config")
def test_what_a_rule_says_is_refused_is_refused(rule):
    with pytest.raises(KdrobustError):
        accepted(broken(rule))


@pytest.mark.slow
@refused_by("data")
def test_what_a_rule_says_is_refused_for_its_data_is_refused(rule, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / MATERIALS)
    # one process, one form of the numbers: the refusal is asked, not the paths
    chosen = {
        **broken(rule),
        "trainer": Option(name="cpu", lines=("trainer=cpu",)),
        "precision": Option(name="as it is"),
    }
    for needed in commands.preparations(chosen):
        assert main(list(needed.arguments)) == 0
    capsys.readouterr()
    assert main(commands.training(chosen, "runs/distill/000")) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not (tmp_path / "runs/distill/000/metrics.csv").exists()


@pytest.mark.slow
@refused_by("evaluation")
def test_what_a_rule_says_is_refused_of_an_evaluation_is_refused(rule, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / MATERIALS)
    by_name = {factor.name: {option.name: option for option in factor.options} for factor in factors()}
    given = {
        name: by_name[name][value] for name, value in [("teacher", "checkpoint"), ("labels", "all"), ("trainer", "cpu")]
    }
    chosen = {**broken(rule), **given}
    (teacher,) = commands.preparations(chosen)
    assert main(list(teacher.arguments)) == 0
    capsys.readouterr()
    assert main(commands.evaluation(chosen, teacher.file, "runs/evaluate/000")) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "runs/evaluate/000").exists()


def test_figures_that_cannot_be_are_found(tmp_path):
    rows = ["epoch,val/accuracy,val/robust_accuracy,train/loss", "0,0.5,0.4,1.5", "2,0.5,0.9,nan"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    (tmp_path / "result.json").write_text(json.dumps({"validation": {"accuracy": 1.2, "loss": 3.0}}))
    assert judging.implausible(tmp_path, 2) == [
        "result.json: validation.accuracy is 1.2, no share",
        "metrics.csv: epochs ['0', '2'], expected 2",
        "metrics.csv: train/loss is nan",
        "metrics.csv: val/robust_accuracy 0.9 above val/accuracy 0.5",
    ]


def run_folder(place, *, bit=0.0, name="032"):
    folder = place / name
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch\n0\n")
    state = {"state_dict": {"weight": torch.tensor([1.0, 1.0 + bit])}, "epoch": 0, "global_step": 3}
    torch.save(state, folder / "best.ckpt")
    torch.save({**state, "optimizer_states": [], "lr_schedulers": []}, folder / "last.ckpt")
    written = {"config_hash": "a032b", "checkpoint": {"path": f"{folder}/best.ckpt"}, "files": {"x": f"{folder}/x.png"}}
    (folder / "result.json").write_text(json.dumps(written))
    return folder


def test_one_bit_is_a_difference_and_a_run_s_own_name_is_none(tmp_path):
    whole, same = run_folder(tmp_path), run_folder(tmp_path, name="032-cut")
    assert judging.differences(whole, same) == []
    other = run_folder(tmp_path, name="other", bit=2**-23)
    assert judging.differences(whole, other) == ["best.ckpt: state_dict", "last.ckpt: state_dict"]


def test_what_goes_wrong_is_told_with_its_command(capsys):
    ended = Ended(arguments=["distill", "a=[1]"], code=0, seconds=1.0, output="...", signalled=False, left=True)
    assert running._wrong(ended, 143) == ["exit code 0, expected 143", "a process of it was left"]
    step = {
        "name": "train",
        "arguments": ended.arguments,
        "seconds": 1.0,
        "wrong": ["a traceback"],
        "tail": ["x", "why"],
    }
    command.show_failure("7", {"steps": [step, {**step, "wrong": []}]}, lines=1)
    assert capsys.readouterr().out == "7: train: a traceback\n  kdrobust distill 'a=[1]'\n  | why\n"
