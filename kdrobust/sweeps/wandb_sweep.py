"""The same search for Weights & Biases: a sweep file made from `conf/search/NAME.yaml`; one YAML serves both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from kdrobust.config.build import to_plain
from kdrobust.config.compose import load
from kdrobust.errors import UsageError
from kdrobust.sweeps.search import RETURNED, Search, parse_search
from kdrobust.sweeps.space import Parameter

_USAGE = "kdrobust search wandb NAME [STAGE] [search.KEY=VALUE ...]"
_METHODS = {"tpe": "bayes", "nsga2": "random", "random": "random", "grid": "grid"}


def main(arguments: Sequence[str]) -> int:
    """`kdrobust search wandb NAME [STAGE] [KEY=VALUE ...]`: print the sweep file.

    Raises:
        UsageError: not that, or a search that W&B cannot run.
    """
    words = [text for text in arguments if "=" not in text]
    if len(words) not in (2, 3) or words[0] != "wandb":
        typed = " ".join(["search", *arguments])
        raise UsageError(f"{typed}: expected {_USAGE}; to run one: kdrobust distill -m search=NAME")
    name, stage = words[1], words[2] if len(words) == 3 else "distill"
    print(sweep_file(name, stage, [text for text in arguments if "=" in text]), end="")
    return 0


def sweep_file(name: str, stage: str = "distill", overrides: Sequence[str] = ()) -> str:
    """The text of a W&B sweep file.

    Args:
        name: of the search.
        stage: what the agent runs.
        overrides: of the search, `search.KEY=...`; every other one is fixed in the agent's command.

    Raises:
        UsageError: a search that does not exist or that W&B cannot run.
    """
    cfg = load(stage, [f"search={name}", *overrides])
    search = parse_search(name, to_plain(cfg.search))
    fixed = [text for text in overrides if not text.startswith("search.")]
    again = " ".join(["kdrobust search wandb", name, *([stage] if stage != "distill" else []), *overrides])
    head = [
        f"# The search {name} for W&B agents, which need an account: a metric W&B can follow, and one run a proposal",
        f"# Made by: {again} > conf/wandb_sweep/{name}.yaml",
        f"# Command: wandb sweep conf/wandb_sweep/{name}.yaml, then what it says: wandb agent ENTITY/PROJECT/ID",
        *(f"# Left to `kdrobust {stage} -m search={name}`: {text}" for text in _left_out(search)),
    ]
    body = yaml.safe_dump(sweep_config(search, stage, fixed), sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(head) + "\n" + body


def sweep_config(search: Search, stage: str, fixed: Sequence[str] = ()) -> dict[str, Any]:
    """The sweep file as plain data.

    Args:
        search: the search; of several metrics, W&B follows the last.
        stage: what the agent runs.
        fixed: further overrides of every run.

    Raises:
        UsageError: the metric is none that a run logs.
    """
    metric, direction = search.metrics[-1], search.directions[-1]
    if not metric.startswith("validation.") and metric != RETURNED:
        raise UsageError(f"search.metrics: runs do not log {metric}; let the last metric be one of validation.*")
    logged = "robust_accuracy" if metric == RETURNED else metric.removeprefix("validation.")
    config: dict[str, Any] = {
        "name": search.name,
        "method": _METHODS[search.sampler],
        "metric": {"name": f"val/{logged}", "goal": direction},
    }
    if search.sampler != "grid":
        config["run_cap"] = search.n_trials
    parameters = {parameter.key: _parameter(parameter, grid=search.sampler == "grid") for parameter in search.space}
    if search.seeds and search.sampler == "grid":
        parameters["seed"] = {"values": list(search.seeds)}
    config["parameters"] = parameters
    if search.pruner is not None:
        config["early_terminate"] = {"type": "hyperband", "min_iter": 3}
    agent = ["${env}", "${interpreter}", "-m", "kdrobust", stage, "logger=wandb", *fixed, "${args_no_hyphens}"]
    config["command"] = agent
    return config


def _left_out(search: Search) -> list[str]:
    left = []
    if len(search.metrics) > 1:
        left.append(f"the front of {len(search.metrics)} metrics (W&B follows one)")
    if search.sampler == "nsga2":
        left.append("NSGA-II (W&B proposes at random)")
    if search.seeds and search.sampler != "grid":
        left.append(f"the mean over seeds {list(search.seeds)}")
    if search.constraints:
        left.append(f"the constraints {', '.join(constraint.text for constraint in search.constraints)}")
    return left


def _parameter(parameter: Parameter, *, grid: bool) -> dict[str, Any]:
    points = parameter.points()
    if parameter.type == "choice" or (grid and points is not None):
        return {"values": points}
    bounds: dict[str, Any] = {"min": parameter.low, "max": parameter.high}
    if parameter.type == "int" and not parameter.log and parameter.step in (None, 1):
        return {"distribution": "int_uniform", **bounds}
    if parameter.log:
        # W&B's q_ distributions round to multiples of q
        rounded = {"q": 1} if parameter.type == "int" else {}
        return {"distribution": "q_log_uniform_values" if rounded else "log_uniform_values", **bounds, **rounded}
    if parameter.step is not None:
        # multiples of a step from 0 on would miss values that count from `low`
        return {"values": points}
    return {"distribution": "uniform", **bounds}
