"""Proposals are a function of the trial's number, storages are taken up again, fronts are what they should be."""

import csv
import io
import itertools
import os

import optuna
import pytest
from optuna.trial import TrialState

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.sweeps.front import completed, front, table_csv, write_figures, write_tables
from kdrobust.sweeps.optuna import _runs, figure_of
from kdrobust.sweeps.search import parse_search
from kdrobust.sweeps.study import ask, open_points, open_study, pruner_of, sampler_of, settled

SPACE = {
    "a": {"type": "float", "low": 0, "high": 1},
    "b": {"type": "choice", "values": ["x", "y"]},
}
TWO = {"metrics": ["accuracy", "robust_accuracy"]}


def search_of(**node):
    return parse_search("study", {"space": SPACE, **node})


def trials(search, study, count):
    """Trials with figures that follow from their values; gives what was proposed."""
    proposed = []
    for _ in range(count):
        trial = ask(search, study)
        value = trial.params["a"]
        study.tell(trial, [value, 1 - value][: len(search.metrics)])
        proposed.append(trial.params)
    return proposed


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_an_interrupted_search_proposes_what_the_uninterrupted_one_does(tmp_path, sampler):
    options = {"tpe": {"n_startup_trials": 3}, "nsga2": {"population_size": 3}, "random": {}}[sampler]
    search = search_of(sampler=sampler, sampler_options=options, storage="journal", **TWO)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = trials(search, open_study(search, tmp_path / "whole", "q"), 8)
    first = trials(search, open_study(search, tmp_path / "parts", "q"), 3)
    second = trials(search, open_study(search, tmp_path / "parts", "q"), 5)
    assert first + second == whole
    assert len({params["a"] for params in whole}) > 3
    other = search_of(sampler=sampler, seed=1, storage="journal", **TWO)
    (tmp_path / "other").mkdir()
    assert trials(other, open_study(other, tmp_path / "other", "q"), 1) != whole[:1]


@pytest.mark.parametrize("cut", [1, 20, 77, 200, 400])
def test_a_journal_whose_last_line_was_cut_short_goes_on(tmp_path, cut, caplog):
    """A process killed while it wrote. Before: the next line was joined to the half one, and nothing could be read."""
    search = search_of(sampler="random", storage="journal")
    trials(search, open_study(search, tmp_path, "q"), 3)
    journal = tmp_path / "study.journal"
    os.truncate(journal, journal.stat().st_size - cut)
    # and its lock, which others would wait for
    (tmp_path / "study.journal.lock").symlink_to(journal)
    with caplog.at_level("WARNING", logger="kdrobust"):
        study = open_study(search, tmp_path, "q")
    assert "its last line was cut short" in caplog.text
    trials(search, study, 4 - settled(study))
    assert settled(open_study(search, tmp_path, "q")) == 4


def test_a_journal_that_is_none_is_one_line(tmp_path):
    search = search_of(sampler="random", storage="journal")
    trials(search, open_study(search, tmp_path, "q"), 2)
    journal = tmp_path / "study.journal"
    journal.write_bytes(b"no json\n" + journal.read_bytes())
    with pytest.raises(RunFolderError, match=r"study\.journal: damaged or no study"):
        open_study(search, tmp_path, "q")


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_stale_trials_are_failed_and_do_not_count(tmp_path, storage):
    search = search_of(storage=storage)
    study = open_study(search, tmp_path, "q")
    trials(search, study, 1)
    ask(search, study)
    again = open_study(search, tmp_path, "q")
    assert [trial.state for trial in again.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert settled(again) == 1
    with pytest.raises(RunFolderError, match="another space or configuration"):
        open_study(search, tmp_path, "another question")


def test_a_grid_goes_on_with_the_points_it_has_not_got(tmp_path):
    space = {"b": SPACE["b"], "c": {"type": "int", "low": 1, "high": 2}}
    search = search_of(space=space, sampler="grid", storage="journal")
    study = open_study(search, tmp_path, "q")
    points = open_points(search, study)
    assert points == [{"b": b, "c": c} for b, c in itertools.product("xy", [1, 2])]
    done, failed = ask(search, study, points[0]), ask(search, study, points[1])
    assert done.params == points[0]
    study.tell(done, 0.5)
    study.tell(failed, state=TrialState.FAIL)
    assert open_points(search, open_study(search, tmp_path, "q")) == points[1:]


def test_options_that_optuna_refuses_are_named():
    with pytest.raises(UsageError, match=r"search\.sampler_options: .*n_startups"):
        sampler_of(search_of(sampler_options={"n_startups": 3}), 0)
    with pytest.raises(UsageError, match=r"search\.pruner_options: "):
        pruner_of(search_of(pruner="median", pruner_options={"n_startup_trials": -1}))
    assert isinstance(pruner_of(search_of()), optuna.pruners.NopPruner)


def filled(search, folder, figures, constraint=None):
    study = open_study(search, folder, "q")
    for number, values in enumerate(figures):
        trial = ask(search, study)
        if constraint is not None:
            trial.set_constraint("size", constraint[number])
        study.tell(trial, values)
    return study


def test_the_front_is_optuna_s_own(tmp_path):
    search = search_of(storage="journal", sampler="random", **TWO)
    figures = [(0.9, 0.1), (0.5, 0.5), (0.4, 0.4), (0.1, 0.8), (0.95, 0.05), (0.5, 0.5), (0.9, 0.9)]
    study = filled(search, tmp_path, figures, constraint=[0, 0, 0, 0, 0, 0, 1])
    best = front(search, completed(study))
    assert [trial.number for trial in best] == [4, 0, 1, 5, 3], "best first by the first metric, ties both kept"
    assert {trial.number for trial in best} == {trial.number for trial in study.best_trials}
    write_figures(search, study, tmp_path)
    assert (tmp_path / "pareto.png").stat().st_size > 5000


def test_directions_count(tmp_path):
    search = search_of(metrics=["accuracy", "flops"], directions=["maximize", "minimize"], storage="journal")
    study = filled(search, tmp_path, [(0.9, 100), (0.8, 50), (0.7, 70)])
    assert [trial.number for trial in front(search, completed(study))] == [0, 1]


def test_tables_tell_every_trial(tmp_path):
    search = search_of(storage="journal", seeds=[0, 1])
    study = filled(search, tmp_path, [0.25, 0.75])
    failed = ask(search, study)
    failed.set_user_attr("error", "no, sorry")
    study.tell(failed, state=TrialState.FAIL)
    rows = list(csv.DictReader(io.StringIO(table_csv(search, study.trials))))
    assert [row["state"] for row in rows] == ["complete", "complete", "fail"]
    assert [row["validation.robust_accuracy"] for row in rows] == ["0.25", "0.75", ""]
    assert rows[2]["error"] == "no, sorry"
    assert float(rows[0]["a"]) == study.trials[0].params["a"]
    write_tables(search, study, tmp_path)
    write_figures(search, study, tmp_path)
    assert [row["trial"] for row in csv.DictReader((tmp_path / "pareto.csv").open())] == ["1"]


def test_runs_of_numbers_are_cut_where_one_is_missing():
    assert list(_runs([3, 4, 6, 9, 10])) == [[3, 4], [6], [9, 10]]
    assert list(_runs([0])) == [[0]]


def test_figures_are_found_or_named():
    result = {"validation": {"accuracy": 0.5, "note": "x"}, "returned": None}
    assert figure_of(result, "validation.accuracy") == 0.5
    for path, said in (
        ("validation.robust", "at 'robust' there are accuracy, note"),
        ("validation.note", "is no number"),
        ("returned", "has no returned"),
        ("validation.accuracy.mean", "there are no keys"),
    ):
        with pytest.raises(UsageError, match=said):
            figure_of(result, path)
