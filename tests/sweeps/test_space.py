"""A space is read whole, refused with every mistake named, and written as overrides that Hydra reads back."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import FloatDistribution, IntDistribution

from kdrobust.sweeps.space import read_parameter, spelled
from kdrobust.sweeps.study import distribution


def parameter(**node):
    found, problems = read_parameter("some.key", node)
    assert problems == []
    return found


def problems(node):
    found, told = read_parameter("some.key", node)
    assert found is None
    return told


@pytest.mark.parametrize(
    "value",
    [3, -0.25, 1e-07, True, None, "rslad", "8/255", "a b, c=(d)", "it's", "", "a\\b ", "a b\\", "\\'", "0²", "größe"],
)
def test_an_override_says_what_was_meant(value):
    override = OverridesParser.create().parse_override(f"key={spelled(value)}")
    assert not override.is_sweep_override()
    assert override.value() == value


def test_lists_are_texts_in_hydra_s_spelling():
    override = OverridesParser.create().parse_override(f"key={spelled('[1,2]')}")
    assert override.value() == [1, 2]


def test_points_of_a_grid():
    assert parameter(type="float", low=0, high=0.3, step=0.1).points() == [0.0, 0.1, 0.2, 0.3]
    assert parameter(type="int", low=1, high=6, step=2).points() == [1, 3, 5]
    assert parameter(type="int", low=1, high=3).points() == [1, 2, 3]
    assert parameter(type="float", low=0, high=1).points() is None
    assert parameter(type="choice", values=["a", None]).points() == ["a", None]


def test_ranges_take_fractions():
    found = parameter(type="float", low="2/255", high="8/255")
    assert (found.low, found.high) == (pytest.approx(2 / 255), pytest.approx(8 / 255))


def test_distributions():
    assert distribution(parameter(type="float", low=1, high=20, log=True)) == FloatDistribution(1, 20, log=True)
    # 0.25 steps from 0 on reach 0.75, not 0.9
    assert distribution(parameter(type="float", low=0, high=0.9, step=0.25)) == FloatDistribution(0, 0.75, step=0.25)
    assert distribution(parameter(type="int", low=1, high=6, step=2)) == IntDistribution(1, 5, step=2)
    assert distribution(parameter(type="choice", values=[1, "a"])).choices == (1, "a")


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (3, "expected a mapping"),
        ({"type": "real"}, "expected one of float, int, choice"),
        ({"type": "float", "low": 0}, "high: not given"),
        ({"type": "float", "low": 0, "high": 1, "stepp": 1}, "did you mean search.space.some.key.step?"),
        ({"type": "float", "low": 1, "high": 1}, "low must be below high"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "log needs low above 0"),
        ({"type": "float", "low": 1, "high": 2, "log": True, "step": 1}, "exclude each other"),
        ({"type": "float", "low": 0, "high": 1, "step": -1}, "must be above 0"),
        ({"type": "int", "low": 0.5, "high": 2}, "expected an integer"),
        ({"type": "float", "low": "many", "high": 2}, "expected a number"),
        ({"type": "float", "low": 0, "high": 2, "values": [1]}, "use type: choice"),
        ({"type": "choice"}, "expected a list"),
        ({"type": "choice", "values": [1, 1]}, "stands there twice"),
        ({"type": "choice", "values": [[1, 2]]}, "write lists as text"),
        ({"type": "choice", "values": [1], "low": 0}, "a choice has only values"),
    ],
)
def test_mistakes_are_named(node, said):
    told = problems(node)
    assert any(said in line for line in told), told
    assert all(line.startswith("search.space.some.key") for line in told)
