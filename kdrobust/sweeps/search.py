"""A search: its space, what it asks of a trial, and how it proposes; read from `conf/search/NAME.yaml`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdrobust.config.check import summary
from kdrobust.config.numbers import as_number
from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import RunFolderError, UsageError
from kdrobust.sweeps.space import Parameter, read_parameter
from kdrobust.tracking import write_json

FILE = "search.json"
SAMPLERS = ("tpe", "nsga2", "random", "grid")
PRUNERS = ("median", "halving")
STORAGES = ("sqlite", "journal")
DIRECTIONS = ("maximize", "minimize")
#: The metric that stands for what the stage itself returns.
RETURNED = "returned"
#: Where the short names of constraints and metrics lie in `result.json`.
SHORT = {
    "parameters": "model.parameters",
    "flops": "model.flops",
    "size_bytes": "model.size_bytes",
    "accuracy": "validation.accuracy",
    "robust_accuracy": "validation.robust_accuracy",
}
_CONSTRAINT = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=)\s*(\S+)\s*")
_COUNT = r"an integer >= {}"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """`path <= bound` or `path >= bound` on a number of `result.json`.

    Attributes:
        path: dotted.
        relation: `<=` or `>=`.
        bound: the other side.
    """

    path: str
    relation: str
    bound: float

    @property
    def text(self) -> str:
        """As in the YAML."""
        return f"{self.path} {self.relation} {self.bound:.12g}"

    def violation(self, value: float) -> float:
        """How far a value is on the wrong side; at most 0 where it keeps the constraint."""
        return value - self.bound if self.relation == "<=" else self.bound - value


@dataclass(frozen=True, kw_only=True)
class Search:
    """What `search=NAME` asks for.

    Attributes:
        name: the option's.
        space: the searched parameters.
        metrics: dotted paths in `result.json`, or `returned`; one objective each.
        directions: `maximize` or `minimize`, one a metric.
        sampler: one of `SAMPLERS`.
        sampler_options: further arguments of Optuna's class.
        pruner: one of `PRUNERS`, or None; needs one objective and one seed.
        pruner_options: further arguments of Optuna's class.
        n_trials: how many trials the study is to have; not given: 20, or a grid's every point.
        seeds: seeds of a trial's jobs, whose figures are averaged; empty: the config's own.
        constraints: what a trial must keep to be taken for the front.
        seed: addresses the proposals.
        storage: `sqlite` or `journal`, a file in the search's folder.
        parallel: trials proposed at once; None: as many as the launcher runs at once.
    """

    name: str
    space: tuple[Parameter, ...]
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    sampler: str = "tpe"
    sampler_options: Mapping[str, Any]
    pruner: str | None = None
    pruner_options: Mapping[str, Any]
    n_trials: int = 20
    seeds: tuple[int, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    seed: int = 0
    storage: str = "sqlite"
    parallel: int | None = None

    @property
    def keys(self) -> list[str]:
        """The searched keys."""
        return [parameter.key for parameter in self.space]

    def question(self) -> dict[str, Any]:
        """What must not change within one study: everything but how, and how long, answers are looked for."""
        plain = asdict(self)
        return {key: plain[key] for key in ("space", "metrics", "directions", "seeds", "constraints", "seed")}

    def write(self, folder: Path) -> None:
        """Leave `search.json` in the search's folder, for its jobs and for readers."""
        write_json(folder / FILE, asdict(self))


def read_search(folder: Path) -> Search:
    """The search of a folder.

    Raises:
        RunFolderError: `search.json` is not there or damaged.
    """
    try:
        plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
        space = tuple(Parameter(**{**node, "values": tuple(node["values"])}) for node in plain.pop("space"))
        constraints = tuple(Constraint(**node) for node in plain.pop("constraints"))
        plain |= {key: tuple(plain[key]) for key in ("metrics", "directions", "seeds")}
        return Search(space=space, constraints=constraints, **plain)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{folder / FILE}: cannot be read ({type(error).__name__}: {error})") from None


def parse_search(name: str, node: Mapping[str, Any], swept: Sequence[Parameter] = ()) -> Search:
    """A search from its option.

    Args:
        name: the option's.
        node: its keys, plain.
        swept: parameters given on the command line; they replace equally named ones.

    Raises:
        UsageError: everything wrong with it, one line each.
    """
    known = list(Search.__dataclass_fields__)[1:]
    problems = [
        f"search.{key}: no such key{did_you_mean(str(key), known, prefix='search.')}"
        for key in node
        if key not in known
    ]
    space: dict[str, Parameter] = {}
    nodes = node.get("space")
    for key, child in nodes.items() if isinstance(nodes, Mapping) else ():
        parameter, found = read_parameter(str(key), child)
        problems += found
        if parameter is not None:
            space[str(key)] = parameter
    space |= {parameter.key: parameter for parameter in swept}
    if not space and not problems:
        problems.append("search.space: expected at least one parameter")
    metrics = _texts(node, "metrics", ["robust_accuracy"], problems)
    directions = _texts(node, "directions", ["maximize"] * len(metrics), problems)
    if any(direction not in DIRECTIONS for direction in directions):
        problems.append(f"search.directions: expected maximize or minimize, got {directions}")
    if len(directions) != len(metrics):
        problems.append(f"search.directions: {len(directions)} of them, but {len(metrics)} metrics")
    constraints = [_constraint(text, problems) for text in _texts(node, "constraints", [], problems)]
    seeds = node.get("seeds") or []
    if not isinstance(seeds, list) or not all(_whole(seed, 0) for seed in seeds) or len(set(seeds)) < len(seeds):
        problems.append(f"search.seeds: expected different integers >= 0, e.g. [0,1,2], got {seeds!r}")
        seeds = []
    search = Search(
        name=name,
        space=tuple(space.values()),
        metrics=tuple(SHORT.get(metric, metric) for metric in metrics),
        directions=tuple(directions),
        sampler=_one_of(node, "sampler", SAMPLERS, "tpe", problems),
        sampler_options=_options(node, "sampler_options", problems),
        pruner=_one_of(node, "pruner", (None, *PRUNERS), None, problems),
        pruner_options=_options(node, "pruner_options", problems),
        n_trials=_integer(node, "n_trials", 1, _default_trials(node, space), problems),
        seeds=tuple(seeds),
        constraints=tuple(constraint for constraint in constraints if constraint is not None),
        seed=_integer(node, "seed", 0, 0, problems),
        storage=_one_of(node, "storage", STORAGES, "sqlite", problems),
        parallel=_integer(node, "parallel", 1, None, problems),
    )
    problems += [f"search.space.{key}: Hydra's own settings are not searched" for key in space if _is_hydra_s(key)]
    problems += _together(search)
    if problems:
        raise UsageError(summary(problems))
    return search


def _together(search: Search) -> list[str]:
    problems = []
    if search.pruner and len(search.metrics) > 1:
        problems.append(f"search.pruner={search.pruner}: pruning needs a single objective; set search.pruner=null")
    if search.pruner and len(search.seeds) > 1:
        problems.append(
            f"search.pruner={search.pruner}: a run of one seed cannot judge the mean of {len(search.seeds)}; "
            "set search.seeds=[0] or search.pruner=null"
        )
    if search.pruner and not search.metrics[0].startswith("validation."):
        problems.append(f"search.pruner={search.pruner}: no epoch tells {search.metrics[0]}; set search.pruner=null")
    if search.sampler == "grid":
        problems += [
            f"search.space.{parameter.key}: a grid needs step, or type: choice"
            for parameter in search.space
            if parameter.points() is None
        ]
    if "seed" in search.keys and search.seeds:
        problems.append("search.space.seed: seeds are averaged already; set search.seeds=[]")
    return problems


def _is_hydra_s(key: str) -> bool:
    return key.lstrip("+~").replace("/", ".").split(".")[0] == "hydra"


def _default_trials(node: Mapping[str, Any], space: Mapping[str, Parameter]) -> int:
    if node.get("sampler") != "grid":
        return 20
    return math.prod(len(parameter.points() or [0]) for parameter in space.values())


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _texts(node: Mapping[str, Any], key: str, default: list[str], problems: list[str]) -> list[str]:
    value = node.get(key)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.append(f"search.{key}: expected a list of texts, got {value!r}")
        return default
    return value or default


def _one_of(node: Mapping[str, Any], key: str, known: Sequence[Any], default: Any, problems: list[str]) -> Any:
    value = node.get(key, default)
    if value not in known:
        names = [str(name) for name in known if name is not None]
        problems.append(f"search.{key}={value}: expected one of {', '.join(names)}{did_you_mean(str(value), names)}")
        return default
    return value


def _integer(node: Mapping[str, Any], key: str, least: int, default: Any, problems: list[str]) -> Any:
    value = node.get(key)
    if value is None:
        return default
    if not _whole(value, least):
        problems.append(f"search.{key}: expected {_COUNT.format(least)}, got {value!r}")
        return default
    return value


def _options(node: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    value = node.get(key) or {}
    if not isinstance(value, dict):
        problems.append(f"search.{key}: expected a mapping, got {value!r}")
        return {}
    return value


def _constraint(text: str, problems: list[str]) -> Constraint | None:
    match = _CONSTRAINT.fullmatch(text)
    try:
        bound = as_number(match[3].replace("_", "")) if match else None
    except ValueError:
        bound = None
    if match is None or bound is None:
        problems.append(f"search.constraints: expected e.g. 'parameters <= 200000', got {text!r}")
        return None
    return Constraint(path=SHORT.get(match[1], match[1]), relation=match[2], bound=bound)
