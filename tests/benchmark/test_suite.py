"""A suite's YAML: what it means, and what is wrong with it, all at once."""

import pytest

from kdrobust import listing
from kdrobust.benchmark.suite import option_of, parse_suite, read_suite, student_passes
from kdrobust.errors import UsageError
from tests.benchmark.suites import node, suite


def test_blocks_take_from_the_suite_what_they_do_not_say():
    made = suite()
    main, ladder = made.blocks["main"], made.blocks["ladder"]
    assert list(main.methods) == ["pgd_at", "standard", "gentle"]
    assert (main.students, main.seeds, main.evaluation, main.passes) == (("small", "mlp"), (0, 1, 2), None, None)
    assert ladder.grid == {"threat.eps": ("0.1", "0.2"), "method.alpha": ("0", "1")}
    assert ladder.evaluation == ("evaluation=fast",)
    assert (made.blocks["tuned"].tune.trials, made.blocks["tuned"].tune.seed) == (3, 7)


def test_a_block_may_have_a_baseline_of_its_own():
    blocks = {"main": {"baseline": "gentle"}, "other": {"methods": ["standard"]}}
    made = suite(blocks=blocks)
    assert (made.blocks["main"].baseline, made.blocks["other"].baseline) == ("gentle", None)
    with pytest.raises(
        UsageError, match=r"blocks\.main\.baseline: gentel: no method of the block; did you mean gentle"
    ):
        parse_suite("trial", node(blocks={"main": {"baseline": "gentel"}}))


def test_a_block_may_bring_methods_of_its_own():
    made = suite(blocks={"main": {}, "mixed": {"methods": {"standard": [], "slow": ["method=rslad", "epochs=9"]}}})
    assert "slow" not in made.blocks["main"].methods
    assert made.blocks["mixed"].methods == {"standard": (), "slow": ("method=rslad", "epochs=9")}
    with pytest.raises(UsageError, match=r"blocks\.mixed\.methods\.slow: expected a list of overrides"):
        parse_suite("trial", node(blocks={"mixed": {"methods": {"slow": "rslad"}}}))


def test_an_entry_is_its_method_unless_it_names_one():
    assert option_of("rslad", ()) == "rslad"
    assert option_of("gentle", ("method.alpha=1", "method=rslad")) == "rslad"
    assert student_passes("rslad") == 12
    assert student_passes("no_such") is None


@pytest.mark.parametrize(
    ("option", "overrides", "passes"),
    [
        ("pgd_at", ["optimizer.lr=0.1"], 11),
        ("pgd_at", ["attack.steps=5"], 6),
        ("pgd_at", ["callbacks.attack.growth=1"], 6.5),
        ("rslad", ["callbacks.attack.growth=0.8"], 8.4),
        ("rslad", ["+callbacks.attack.growth=0.5", "callbacks.attack.first_steps=1", "attack.steps=4"], 5.0),
        ("pgd_at", ["callbacks.attack.growth=1", "attack.steps=2"], 3),
        ("standard", ["attack.steps=5"], 1),
        ("fgsm_rs", ["attack.steps=10"], 2),
        ("pgd_at", ["attack=fgsm"], None),
    ],
)
def test_an_attack_of_fewer_steps_costs_fewer_passes(option, overrides, passes):
    assert student_passes(option, tuple(overrides)) == (None if passes is None else pytest.approx(passes))


def test_the_mean_number_of_steps_is_the_callback_s():
    from kdrobust.attacks import AttackCallback, GradientAttack, Threat

    attack = GradientAttack(
        threat=Threat(norm="linf", eps=0.1), goal="cross_entropy", steps=10, step_size=0.025, start="uniform"
    )
    callback = AttackCallback(attack=attack, growth=0.8, first_steps=2)
    moments = [moment / 1000 for moment in range(10_000)]
    mean = sum(callback.attack_at(moment, 10).steps for moment in moments) / len(moments)
    assert student_passes("pgd_at", ("callbacks.attack.growth=0.8",)) == pytest.approx(mean + 1, abs=0.01)


def test_the_defaults_that_headers_count_are_those_of_the_config():
    from kdrobust.benchmark import suite as module
    from kdrobust.config import compose

    composed = compose("distill", ["method=pgd_at"])
    assert composed.attack.steps == module._STEPS
    assert composed.callbacks.attack.get("first_steps", 2) == module._FIRST_STEPS
    assert not composed.callbacks.attack.get("growth", 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epoch": 3}, "epoch: no such key; did you mean epochs?"),
        ({"epochs": 0}, "epochs: expected an integer >= 1, got 0"),
        ({"settings": "data=digits"}, "settings: expected a list of overrides"),
        ({"settings": ["data"]}, "settings: expected a list of overrides"),
        ({"baseline": "pgd"}, "baseline: pgd: no method of the suite; did you mean pgd_at?"),
        ({"seeds": [0, 0]}, "seeds: expected different integers >= 0"),
        ({"students": {}}, "students: expected names with lists of overrides"),
        ({"methods": {"pgd_at": ["x"]}}, "methods.pgd_at: expected a list of overrides"),
        ({"blocks": None}, "blocks: expected at least one block"),
        ({"blocks": {"main": [1]}}, "blocks.main: expected keys"),
        ({"blocks": {"main": {"grit": {}}}}, "blocks.main.grit: no such key; did you mean grid?"),
        ({"blocks": {"main": {"methods": ["gentl"]}}}, "gentl: the suite has none of this name; did you mean gentle?"),
        ({"blocks": {"main": {"methods": []}}}, "blocks.main.methods: expected a list of names"),
        ({"blocks": {"main": {"grid": {"a": 1}}}}, "blocks.main.grid: expected override keys with lists of values"),
        ({"blocks": {"main": {"passes": -1}}}, "blocks.main.passes: expected a number > 0"),
        ({"blocks": {"main": {"tune": {"trial": 1}}}}, "blocks.main.tune: expected trials, seed, spaces"),
        ({"blocks": {"main": {"tune": {"trials": 0}}}}, "blocks.main.tune.trials: expected an integer >= 1"),
        ({"blocks": {"main": {"tune": {"trials": 2, "spaces": {"a": 1}}}}}, "tune.spaces: expected methods with"),
    ],
)
def test_a_mistake_is_named_with_its_key(changes, told):
    with pytest.raises(UsageError) as caught:
        parse_suite("trial", node(**changes))
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UsageError) as caught:
        parse_suite("trial", node(epochs=0, baseline="x", seeds=[]))
    assert all(key in str(caught.value) for key in ("epochs:", "baseline:", "seeds:"))


def test_a_suite_of_ones_own_is_found_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "suite"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# Mine\nepochs: 1\nbaseline: pgd_at\nmethods: {pgd_at: []}\nstudents: {a: []}\nblocks: {main: }\n"
    )
    (folder / "broken.yaml").write_text("# Broken\n{")
    assert read_suite("mine").summary == "Mine"
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        read_suite("broken")
    with pytest.raises(UsageError, match="suite=min: no such suite; did you mean mine"):
        read_suite("min")


@pytest.mark.parametrize("name", [option.name for option in listing.options("suite")])
def test_shipped_suites_say_what_each_block_asks(name):
    made = read_suite(name)
    assert all(block.question.endswith("?") for block in made.blocks.values())
    assert made.baseline in made.blocks["main"].methods


def test_notes_are_sentences():
    made = suite(notes=["A  note\nover two lines."], blocks={"main": {"notes": ["Its own."]}})
    assert made.notes == ("A note over two lines.",)
    assert made.blocks["main"].notes == ("Its own.",)
    with pytest.raises(UsageError, match=r"(?s)blocks\.main\.notes: expected a list of sentences.*suite=trial notes:"):
        suite(notes="one", blocks={"main": {"notes": [1]}})
