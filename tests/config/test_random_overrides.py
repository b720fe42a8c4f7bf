"""Random overrides: whatever is typed, the config layer answers with a config or with its own error."""

from __future__ import annotations

from contextlib import suppress

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kdrobust.config import check
from kdrobust.config.compose import compose, load
from kdrobust.config.dead import dead_additions
from kdrobust.config.hydra_node import hydra_problems
from kdrobust.errors import UsageError
from kdrobust.shorthand import spell_out
from kdrobust.sweeps.space import read_parameter, spelled

REPEATABLE = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

words = st.text(alphabet="abeilnprst_.=+~@{}[]$:,'\"/-0123 \\", max_size=18)
unicode = st.text(max_size=12)
numbers = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.floats().map(repr),
    st.sampled_from(["1e999", "-0", "0x1F", "1_000", "8/255", "1/0", "00", "1e-400", "9" * 400]),
)
interpolations = st.sampled_from(
    [
        "${seed}", "${nowhere}", "${.}", "${..}", "${recipe.alpha}", "${recipe}", "${run.name}", "${a.${seed}.b}", "${",
        "${oc.env:NOT_SET_HERE}", "${oc.env:NOT_SET_HERE,3}", "${oc.decode:'[1'}", "${nothing:1,2}", "${div:1,0}",
        "${oc.select:seed,1}", "${sub:1,${recipe.alpha}}", "${hydra:job.name}", "${choice:recipe}", "a${seed}b", "${recipe:}",
    ]
)  # fmt: skip
sweeps = st.sampled_from(
    ["1,2", "range(1,4)", "interval(0,1)", "choice(1,2)", "shuffle(1,2)", "glob(*)", "tag(a,choice(1))", "sort(3,1)"]
)
plain = st.one_of(
    words, unicode, numbers, interpolations, sweeps, st.sampled_from(["null", "true", "???", "", "'", '"'])
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ",".join(parts) + "]"),
        st.lists(st.tuples(st.sampled_from(["a", "alpha", "_target_", "1", ""]), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
keys = st.one_of(
    st.sampled_from(
        [
            "seed",
            "recipe",
            "recipe.alpha",
            "recipe.terms",
            "recipe.terms.clean.weight",
            "recipe._target_",
            "net",
            "net@student",
            "epochs",
            "threat.eps",
            "run.name",
            "x",
            "exp",
            "hydra",
            "hydra.run.dir",
            "hydra.mode",
            "hydra/launcher",
        ]
    ),
    st.lists(st.sampled_from(["a", "seed", "recipe", "terms", "0", "ü", ""]), min_size=1, max_size=40).map(".".join),
    unicode,
)
overrides = st.one_of(
    words, unicode, st.builds("{}{}={}".format, st.sampled_from(["", "", "+", "++", "~"]), keys, values)
)


@settings(REPEATABLE, max_examples=40)
@given(lines=st.lists(overrides, min_size=1, max_size=3))
def test_a_run_s_overrides_meet_nothing_but_usage_errors(folder, lines):
    with suppress(UsageError):
        assert all(isinstance(line, str) and line for line in check(compose("study", lines)))


@settings(REPEATABLE, max_examples=40)
@given(lines=st.lists(overrides, min_size=1, max_size=3))
def test_a_sweep_s_overrides_meet_nothing_but_usage_errors(folder, lines):
    with suppress(UsageError):
        cfg = load("study", lines, multirun=True)
        problems = [*hydra_problems(cfg), *dead_additions(cfg, lines)]
        assert all(isinstance(line, str) and line for line in problems)


nodes = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["1/255", "1/0", "float"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)
parameters = st.one_of(
    nodes,
    st.dictionaries(st.sampled_from(["type", "low", "high", "log", "step", "values", "stepp"]), nodes, max_size=6),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["float", "int", "choice"])},
        optional=dict.fromkeys(("low", "high", "log", "step", "values"), nodes),
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["float", "int"]),
            "low": st.integers() | st.floats(),
            "high": st.integers() | st.floats(),
        },
        optional={"step": st.integers() | st.floats(), "log": st.booleans()},
    ),
)


@settings(REPEATABLE, max_examples=300)
@given(node=parameters)
def test_a_search_parameter_is_read_or_refused_by_its_key(node):
    parameter, problems = read_parameter("some.key", node)
    assert (parameter is None) == bool(problems)
    assert all(line.startswith("search.space.some.key") for line in problems)
    if parameter is not None and parameter.type == "choice":
        assert all(spelled(value) for value in parameter.values)


@settings(REPEATABLE, max_examples=200)
@given(value=st.text(max_size=12))
def test_a_text_spelled_as_an_override_is_read_back(value):
    assume(value[:1] not in ("[", "{"))
    override = OverridesParser.create().parse_override(f"key={spelled(value)}")
    assert not override.is_sweep_override()
    # what needs no quotes may be a number: a space written in YAML has told them apart before
    assert override.value() == value or spelled(value) == value


@settings(REPEATABLE, max_examples=200)
@given(
    key=st.sampled_from(["checkpoint", "threat.eps", "radii", "seed", ""]),
    parts=st.lists(st.one_of(numbers, words, unicode, interpolations), max_size=4),
)
def test_an_evaluation_s_lists_are_spelled_out_whatever_stands_in_them(key, parts):
    typed = f"{key}={','.join(parts)}"
    assert spell_out("evaluate", ["-m", typed]) == ["-m", typed]
    spelled_out = spell_out("evaluate", [typed])
    if spelled_out != [typed]:
        name, _, values = spelled_out[0].partition("=[")
        assert name == {"checkpoint": "checkpoint", "threat.eps": "radii"}[key]
        assert sorted(values[:-1].split(",")) == sorted(part for part in ",".join(parts).split(",") if part)
