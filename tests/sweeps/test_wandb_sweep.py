"""The W&B sweep files are what the searches say, and what W&B's agent starts is a command that composes."""

import pytest
import yaml

from kdrobust import cli
from kdrobust.config import compose, conf_dir
from kdrobust.errors import UsageError
from kdrobust.sweeps.search import parse_search
from kdrobust.sweeps.wandb_sweep import sweep_config, sweep_file

FILES = sorted((conf_dir() / "wandb_sweep").glob("*.yaml"))
SEARCHES = sorted(path for path in (conf_dir() / "search").glob("*.yaml") if not path.stem.startswith("_"))


def test_every_search_has_its_file():
    assert [path.name for path in FILES] == [path.name for path in SEARCHES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_up_to_date(path):
    remedy = f"kdrobust search wandb {path.stem} > conf/wandb_sweep/{path.stem}.yaml"
    assert path.read_text(encoding="utf-8") == sweep_file(path.stem), remedy


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_agent_s_command_composes(path):
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweep["command"][2:5] == ["-m", "kdrobust", "distill"]
    fixed = [word for word in sweep["command"] if "=" in word]
    chosen = [
        f"{key}={node['values'][0] if 'values' in node else node['min']}" for key, node in sweep["parameters"].items()
    ]
    cfg = compose("distill", [*fixed, *chosen])
    assert cfg.logger.wandb.project == "kdrobust"


def config(space, **node):
    return sweep_config(parse_search("mine", {"space": {"k": space}, **node}), "distill", ["epochs=3"])


def test_parameters():
    for space, expected in (
        ({"type": "float", "low": 0, "high": 1}, {"distribution": "uniform", "min": 0, "max": 1}),
        (
            {"type": "float", "low": 1, "high": 9, "log": True},
            {"distribution": "log_uniform_values", "min": 1, "max": 9},
        ),
        ({"type": "float", "low": 0, "high": 1, "step": 0.5}, {"values": [0, 0.5, 1]}),
        ({"type": "int", "low": 1, "high": 3}, {"distribution": "int_uniform", "min": 1, "max": 3}),
        ({"type": "int", "low": 1, "high": 5, "step": 2}, {"values": [1, 3, 5]}),
        ({"type": "choice", "values": ["a", 1]}, {"values": ["a", 1]}),
    ):
        assert config(space)["parameters"]["k"] == expected
    logged = config({"type": "int", "low": 1, "high": 8, "log": True})["parameters"]["k"]
    assert logged == {"distribution": "q_log_uniform_values", "min": 1, "max": 8, "q": 1}


def test_what_w_and_b_can_do_is_asked_of_it():
    made = config({"type": "int", "low": 1, "high": 3}, sampler="grid", seeds=[0, 1], directions=["minimize"])
    assert made["method"] == "grid"
    assert made["parameters"] == {"k": {"values": [1, 2, 3]}, "seed": {"values": [0, 1]}}
    assert made["metric"] == {"name": "val/robust_accuracy", "goal": "minimize"}
    assert "run_cap" not in made
    assert made["command"][-2:] == ["epochs=3", "${args_no_hyphens}"]
    pruned = config({"type": "int", "low": 1, "high": 3}, pruner="median", n_trials=7)
    assert pruned["early_terminate"]["type"] == "hyperband"
    assert pruned["run_cap"] == 7
    with pytest.raises(UsageError, match=r"runs do not log model\.flops"):
        config({"type": "int", "low": 1, "high": 3}, metrics=["flops"])


def test_what_it_cannot_do_is_said():
    text = sweep_file(
        "alpha_temperature_pareto", overrides=["search.seeds=[0,1]", "search.constraints=['accuracy >= 0.5']"]
    )
    for left in ("the front of 2 metrics", "NSGA-II", "the mean over seeds [0, 1]", "validation.accuracy >= 0.5"):
        assert left in text


def test_the_command_line(capsys):
    assert cli.main(["search", "wandb", "temperature_tpe", "epochs=2"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["command"][-2] == "epochs=2"
    assert "# Made by: kdrobust search wandb temperature_tpe epochs=2 >" in out
    assert cli.main(["search", "temperature_tpe"]) == 2
    assert "to run one: kdrobust distill -m search=NAME" in capsys.readouterr().err
    assert cli.main(["search", "wandb", "temperature_tp"]) == 2
    assert "did you mean temperature_tpe?" in capsys.readouterr().err
