from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdrobust.config import check, compose, compose_group
from kdrobust.errors import UsageError


def refusal(overrides: list[str], stage: str = "study") -> str:
    with pytest.raises(UsageError) as caught:
        compose(stage, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "begins", "contains"),
    [
        ("recipe.alhpa=4", "recipe.alhpa: no such key; did you mean recipe.alpha?", "+recipe.alhpa=4"),
        ("recipe.terms.clean.wieght=1", "recipe.terms.clean.wieght: no such key", "recipe.terms.clean.weight"),
        ("recpie=bold", "recpie: no such key; did you mean recipe?", ""),
        ("seed.x=3", "seed.x: no such key", "seed"),
        ("zzz=3", "zzz: no such key; there are", "epochs"),
        ("recipe.attack={x: 1}", "recipe.attack={x: 1}: recipe.attack has no key x", "+recipe.attack.x=1"),
        (
            "recipe.attack={stesp: 3}",
            "recipe.attack={stesp: 3}: recipe.attack has no key stesp; did you mean",
            "attack.steps",
        ),
        (
            "recipe.terms={mine: {a: 1}}",
            "recipe.terms={mine: {a: 1}}: recipe.terms has no key mine",
            "+recipe.terms.mine=...",
        ),
        ("recipe.terms.clean={on: true}", "recipe.terms.clean={on: true}: ", "+recipe.terms.clean.on=true"),
        ("recipe=plian", "recipe=plian: no such option; did you mean plain?", "available: bold, plain"),
        ("recipe=zzz", "recipe=zzz: no such option; available: bold, plain", ""),
        ("recipe=3", "recipe=3: expected the name of an option", "bold"),
        ("net@student=smal", "net@student=smal: no such option; did you mean small?", ""),
        ("net=small", "net=small: say which:", "net@student=small"),
        ("nte@student=small", "nte@student=small: no such group; did you mean net?", ""),
        ("method=rslad", "method=rslad: this stage has no choice of method", "recipe"),
        ("+seed=3", "+seed=3: seed exists already; write seed=3", ""),
        ("+recipe=bold", "+recipe=bold: recipe is chosen already", "recipe=bold"),
        ("~zzz", "~zzz: no such key or choice", ""),
        ("seed=1,2", "seed=1,2: several values are a sweep: add -m", "seed=[1,2]"),
        ("seed", "seed: not an override; write key=value", ""),
        ("seed=[1", "seed=[1: cannot be read as key=value", ""),
        ("exp=lnog", "exp=lnog: no such option; did you mean long?", ""),
    ],
)
def test_each_mistake_is_one_line_that_names_it(folder: Path, override: str, begins: str, contains: str) -> None:
    line = refusal([override])
    assert line.startswith(begins)
    assert contains in line
    assert "\n" not in line


def test_an_option_in_a_folder_of_its_group_is_found_by_what_is_close(folder: Path) -> None:
    (folder / "conf/recipe/paper").mkdir()
    (folder / "conf/recipe/paper/exact.yaml").write_text("# Exact\ndefaults: [plain, _self_]\n")
    near = refusal(["recipe=paper/exatc"])
    assert near == "recipe=paper/exatc: no such option; did you mean paper/exact?; available: paper/exact"
    far = refusal(["recipe=papr/exact"])
    assert far.startswith("recipe=papr/exact: no such option; did you mean paper/exact?; available: bold, paper/exact")


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    lines = refusal(["recipe=bld", "epochs=2", "recipe.alhpa=3", "seed=[1"]).splitlines()
    assert lines[0] == "3 problems in the configuration:"
    assert {line.split(":")[0].strip() for line in lines[1:]} == {"recipe=bld", "recipe.alhpa", "seed=[1"}


def test_mistakes_in_files_name_the_file(folder: Path) -> None:
    (folder / "conf/exp/bad.yaml").write_text("a: [1\n")
    assert "bad.yaml" in refusal(["exp=bad"])
    assert "not valid YAML" in refusal(["exp=bad"])
    (folder / "conf/exp/lost.yaml").write_text("# @package _global_\ndefaults:\n  - override /recipe: zzz\n")
    assert "zzz" in refusal(["exp=lost"])
    assert "no such primary" not in refusal([], stage="nowhere")


def test_an_experiment_wins_over_the_primary_keys_and_the_command_line_over_both(folder: Path) -> None:
    cfg = compose("study", ["exp=long"])
    assert cfg.epochs == 30
    assert cfg.recipe.alpha == 0.5
    assert compose("study", ["exp=long", "epochs=2"]).epochs == 2


def test_choices_are_settled_when_hydra_leaves(folder: Path) -> None:
    cfg = compose("study", ["recipe=bold", "net@student=wide"])
    assert "hydra" not in cfg
    assert cfg.run.name == "bold_wide"


def test_zero_is_a_seed(folder: Path) -> None:
    assert compose("study", ["seed=0"]).seed == 0


def test_a_group_on_its_own_is_plain_numbers(folder: Path) -> None:
    plain = compose_group("recipe", "plain", ["recipe.alpha=1/4"])
    assert plain["terms"]["clean"]["weight"] == 0.25
    assert plain["terms"]["adversarial"]["weight"] == 0.75
    assert plain["attack"]["step_size"] == "${div:${threat.eps},4}"
    assert type(plain["terms"]) is dict


def test_a_group_refuses_what_a_stage_refuses(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean plain"):
        compose_group("recipe", "plian")


texts = st.text(alphabet="abeilnprst_.=+~@{}[]$:,'\"/-0123 \\", max_size=18)
keys = st.sampled_from(
    ["seed", "recipe", "recipe.alpha", "recipe.terms", "net@student", "epochs", "threat.eps", "run.name", "x"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    overrides=st.lists(
        st.one_of(texts, st.builds("{}{}={}".format, st.sampled_from(["", "+", "++", "~"]), keys, texts)), max_size=2
    )
)
def test_random_overrides_meet_nothing_but_usage_errors(folder: Path, overrides: list[str]) -> None:
    try:
        problems = check(compose("study", overrides))
    except UsageError as error:
        problems = [str(error)]
    assert all(isinstance(line, str) and line for line in problems)
