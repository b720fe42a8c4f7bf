"""Searches from the command line, and a sweep of two trials on two processes each."""

import csv
import json
import os
import shutil

import optuna
import pytest
import torch
import yaml

from kdrobust.models import read_checkpoint
from kdrobust.sweeps.study import storage_of
from tests.stages.conftest import IMPLIED, Workplace

ALONE = [
    *IMPLIED,
    "threat@teacher_training.threat=linf_0.1",
    "epochs=1",
    "data.limit_train=64",
    "data.limit_validation=40",
    "threads=1",
]
ALONE += ["attack.steps=1", "callbacks.robust_validation.attack.steps=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    workplace = Workplace(tmp_path_factory.mktemp("searches"))
    conf = workplace.folder / "conf" / "search"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text(
        "# Radii\ndefaults: [_base, _self_]\nspace:\n  threat.eps: {type: float, low: 0.01, high: 0.3}\n"
        "metrics: [accuracy, robust_accuracy]\nconstraints: ['parameters <= 4000']\nstorage: journal\nsampler: random\n"
    )
    return workplace


def rows(place, pattern, name="trials.csv"):
    with (place.only(pattern) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_front_seeds_constraints_failures_and_going_on(place, capsys):
    command = ["distill", "-m", "search=mine", "search.seeds=[0,1]", "model@student=small_cnn,mlp", *ALONE]
    place.run(*command, "search.sampler=grid", code=2)
    assert "search.space.threat.eps: a grid needs step" in capsys.readouterr().err
    assert not (place.folder / "outputs").exists(), "nothing has run, nothing is left"

    place.run(*command, "n_trials=1")
    first = rows(place, "outputs/sweeps/mine-*")
    assert [row["jobs"] for row in first] == ["0 1"]
    jobs = [json.loads((place.only(f"outputs/sweeps/mine-*/{job}") / "result.json").read_text()) for job in (0, 1)]
    assert [job["seed"] for job in jobs] == [0, 1]
    for key in ("accuracy", "robust_accuracy"):
        mean = sum(job["validation"][key] for job in jobs) / 2
        assert float(first[0][f"validation.{key}"]) == pytest.approx(mean)
    assert {job["threat"]["eps"] for job in jobs} == {float(first[0]["threat.eps"])}

    capsys.readouterr()
    place.run(*command, "n_trials=2")
    out = capsys.readouterr().out
    went_on = rows(place, "outputs/sweeps/mine-*")
    assert went_on[0] == first[0]
    assert len(went_on) == 2
    assert went_on[-1]["jobs"] == "2 3"
    for row in went_on:
        assert row["feasible"] == str(int(row["parameters"]) <= 4000).lower()
    assert len({row["model@student"] for row in went_on}) == 2
    front = rows(place, "outputs/sweeps/mine-*", "pareto.csv")
    assert {row["model@student"] for row in front} == {"small_cnn"}
    assert "mine: front of 2 completed trials" in out
    assert "outside the constraints" in out
    assert (place.only("outputs/sweeps/mine-*") / "pareto.png").exists()
    place.run(*command, "n_trials=2")
    assert rows(place, "outputs/sweeps/mine-*") == went_on, "it has what it was asked for"


def test_a_failed_trial_is_told_and_does_not_stop_the_search(place, capsys):
    # ε above 1 is refused by the job, not by composition
    place.run(
        "distill", "-m", "search=mine", "threat.eps=0.1,7", "search.sampler=grid", "search.parallel=2", *ALONE, code=2
    )
    err = capsys.readouterr().err
    assert "1 of 2 jobs failed" in err
    assert "7" in err
    folder = next(
        path.parent for path in place.folder.glob("outputs/sweeps/*/trials.csv") if "0.1," in path.read_text()
    )
    with (folder / "trials.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["state"] for row in found] == ["complete", "fail"]
    assert found[1]["error"]
    shutil.rmtree(folder)


def test_hopeless_trials_are_pruned(place, capsys):
    (place.folder / "conf" / "search" / "rate.yaml").write_text(
        "# Learning rates, the second of them hopeless\ndefaults: [_base, _self_]\nsampler: grid\n"
        "space:\n  optimizer.lr: {type: choice, values: [0.01, 1e-9]}\n"
        "pruner: median\npruner_options: {n_startup_trials: 1}\n"
    )
    few = ["method=standard", "epochs=4", "data.limit_train=256", "data.limit_validation=100", "threads=1"]
    place.run("distill", "-m", "search=rate", *few, "callbacks.robust_validation.attack.steps=1", "threat.eps=0.01")
    assert [row["state"] for row in rows(place, "outputs/sweeps/rate-*")] == ["complete", "pruned"]
    folder = place.only("outputs/sweeps/rate-*")
    study = optuna.load_study(study_name="rate", storage=storage_of(folder, "sqlite"))
    good, hopeless = (trial.intermediate_values for trial in study.trials)
    with (folder / "0" / "metrics.csv").open(newline="") as file:
        logged = [float(row["val/robust_accuracy"]) for row in csv.DictReader(file)]
    assert list(good.values()) == pytest.approx(logged)
    assert len(hopeless) < 4
    assert "pruned after epoch" in json.loads((folder / "1" / "status.json").read_text())["error"]
    assert "1 pruned" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search=mine"], "add -m"),
        (["-m", "search=min"], "search=min: no such option; did you mean mine?"),
        (["-m", "search=mine", "threat.eps=0.1"], "threat.eps: searched and fixed"),
        (["-m", "search=mine", "seed=3", "search.seeds=[0]"], "search.seeds sets it"),
        (["-m", "search=mine", "method.alpha=interval(0,1)", "method=pgd_at"], "method.alpha: no such key"),
        (["-m", "search=mine", "search.sampler_options={seeds:3}"], "search.sampler_options"),
        (["-m", "search=mine", "method=rslad,rslda"], "did you mean rslad?"),
    ],
)
def test_mistakes_are_told_before_anything_runs(place, capsys, arguments, said):
    before = sorted(place.folder.glob("outputs/sweeps/*/*"))
    place.run("distill", *arguments, code=2)
    assert said in capsys.readouterr().err
    assert [path for path in place.folder.glob("outputs/sweeps/*/*/result.json") if path.parent not in before] == []


@pytest.mark.ddp
def test_two_trials_on_two_ranks_each_train_one_configuration(place):
    # both ranks see in each step what one process with the whole batch sees, if both have the trial's settings
    common = [*ALONE, "model@student=mlp", "callbacks.attack.warmup=0"]
    arguments = ["search=mine", "n_trials=2", "trainer=ddp_cpu", "data.batch_size=16", "run.root=two", *common]
    place.run("distill", "-m", *arguments)
    found = rows(place, "two/sweeps/mine-*")
    assert [row["state"] for row in found] == ["complete", "complete"]
    assert found[0]["threat.eps"] != found[1]["threat.eps"]
    folder = place.only("two/sweeps/mine-*")
    trained = [read_checkpoint(folder / job / "best.ckpt")["state_dict"] for job in "01"]
    for number, row in enumerate(found):
        # SameConfig has compared hashes and weights of the ranks
        resolved = yaml.safe_load((folder / str(number) / "config_resolved.yaml").read_text())
        assert resolved["threat"]["eps"] == float(row["threat.eps"])
        alone = f"alone{number}"
        place.run("distill", *common, "data.batch_size=32", f"threat.eps={row['threat.eps']}", f"run.folder={alone}")
        for name, value in read_checkpoint(place.folder / alone / "best.ckpt")["state_dict"].items():
            torch.testing.assert_close(trained[number][name], value, rtol=1e-4, atol=1e-5)
    first, second = trained
    assert max(float((first[name] - second[name]).abs().max()) for name in first) > 1e-4


@pytest.mark.ddp
def test_a_pruned_trial_stops_on_all_its_ranks_and_the_next_one_runs(place, capfd):
    (place.folder / "conf" / "search" / "ranks.yaml").write_text(
        "# Learning rates, the second of them hopeless, the third as good as the first\n"
        "defaults: [_base, _self_]\nsampler: grid\n"
        "space:\n  optimizer.lr: {type: choice, values: [0.01, 1e-9, 0.0100000001]}\n"
        "pruner: median\npruner_options: {n_startup_trials: 1}\n"
    )
    few = ["method=standard", "epochs=4", "data.limit_train=256", "data.limit_validation=100", "threads=1"]
    few += ["callbacks.robust_validation.attack.steps=1", "threat.eps=0.01", "model@student=mlp", "data.batch_size=16"]
    place.run("distill", "-m", "search=ranks", *few, "trainer=ddp_cpu")
    assert [row["state"] for row in rows(place, "outputs/sweeps/ranks-*")] == ["complete", "pruned", "complete"]
    folder = place.only("outputs/sweeps/ranks-*")
    assert "pruned after epoch" in json.loads((folder / "1" / "status.json").read_text())["error"]
    # the other rank was told so too, and neither waited for the other until a collective timed out
    said = capfd.readouterr().err
    assert said.count("pruned after epoch") >= 1
    assert "Timed out" not in said
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"} & set(os.environ)
