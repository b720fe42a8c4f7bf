"""A search is checked as a whole before anything runs, and survives its file."""

import pytest

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.sweeps.optuna import split_arguments
from kdrobust.sweeps.search import parse_search, read_search
from kdrobust.sweeps.space import Parameter

ALPHA = {"method.alpha": {"type": "float", "low": 0, "high": 1}}


def test_defaults():
    search = parse_search("mine", {"space": ALPHA})
    assert search.metrics == ("validation.robust_accuracy",)
    assert search.directions == ("maximize",)
    assert (search.sampler, search.n_trials, search.seeds, search.pruner) == ("tpe", 20, (), None)


def test_a_grid_has_as_many_trials_as_points():
    space = {"a": {"type": "choice", "values": [1, 2, 3]}, "b": {"type": "int", "low": 0, "high": 1}}
    assert parse_search("mine", {"space": space, "sampler": "grid"}).n_trials == 6
    assert parse_search("mine", {"space": space, "sampler": "grid", "n_trials": 4}).n_trials == 4


def test_a_search_survives_its_file(tmp_path):
    node = {"space": ALPHA, "seeds": [0, 1], "constraints": ["parameters <= 200_000"], "metrics": ["accuracy"]}
    search = parse_search("mine", node, [Parameter(key="b", type="choice", values=("x", None, 2))])
    search.write(tmp_path)
    assert read_search(tmp_path) == search
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"search\.json: cannot be read"):
        read_search(tmp_path)


def test_constraints_know_their_wrong_side():
    at_most, at_least = parse_search(
        "mine", {"space": ALPHA, "constraints": ["parameters <= 100", "accuracy >= 1/2"]}
    ).constraints
    assert at_most.path == "model.parameters"
    assert (at_most.violation(120), at_most.violation(80)) == (20, -20)
    assert (at_least.violation(0.25), at_least.violation(0.75)) == (0.25, -0.25)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"sampler": "tpee"}, "did you mean tpe?"),
        ({"n_trails": 3}, "search.n_trails: no such key; did you mean search.n_trials?"),
        ({"n_trials": 0}, "search.n_trials: expected an integer >= 1"),
        ({"n_trials": True}, "search.n_trials: expected an integer >= 1"),
        ({"space": {}}, "search.space: expected at least one"),
        ({"directions": ["up"]}, "expected maximize or minimize"),
        ({"directions": ["maximize", "maximize"]}, "2 of them, but 1 metrics"),
        ({"metrics": "accuracy"}, "expected a list of texts"),
        ({"seeds": [0, 0]}, "different integers"),
        ({"constraints": ["parameters < 3"]}, "expected e.g. 'parameters <= 200000'"),
        ({"constraints": ["parameters <= few"]}, "expected e.g."),
        ({"sampler_options": [1]}, "expected a mapping"),
        ({"sampler": "grid"}, "a grid needs step"),
        ({"pruner": "median", "metrics": ["accuracy", "robust_accuracy"]}, "needs a single objective"),
        ({"pruner": "median", "seeds": [0, 1]}, "cannot judge the mean of 2"),
        ({"pruner": "median", "metrics": ["flops"]}, "no epoch tells"),
        ({"space": {"seed": {"type": "choice", "values": [1, 2]}}, "seeds": [0, 1]}, "averaged already"),
    ],
)
def test_mistakes_are_named(node, said):
    with pytest.raises(UsageError) as told:
        parse_search("mine", {"space": ALPHA, **node})
    assert said in str(told.value)


def test_all_mistakes_at_once():
    with pytest.raises(UsageError, match="3 problems"):
        parse_search("mine", {"space": ALPHA, "sampler": "x", "n_trials": -1, "storage": "paper"})


def test_swept_values_join_the_space():
    fixed, swept = split_arguments(
        [
            "search=x",
            "search.n_trials=3",
            "epochs=2",
            "~callbacks.best",
            "+a.b=1",
            "threat.eps=4/255,8/255",
            "k=range(1,4)",
            "t=tag(log,interval(0.1,0.9))",
            "data=digits",
        ]
    )
    assert fixed == ["epochs=2", "~callbacks.best", "+a.b=1", "data=digits"]
    assert [parameter.key for parameter in swept] == ["threat.eps", "k", "t"]
    assert swept[0].values == ("4/255", "8/255")
    assert swept[1].values == ("1", "2", "3")
    assert (swept[2].low, swept[2].high, swept[2].log) == (0.1, 0.9, True)
    with pytest.raises(UsageError, match="lower end"):
        split_arguments(["t=interval(3,1)"])
