"""Run folders, read with distrust: what is missing is empty, what is damaged is told, nothing stops the rest."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from kdrobust.config import DERIVED

RESULT, STATUS, MANIFEST, CONFIG, METRICS = (
    "result.json",
    "status.json",
    "manifest.json",
    "config_resolved.yaml",
    "metrics.csv",
)
HYDRA, OVERRIDES = ".hydra/hydra.yaml", ".hydra/overrides.yaml"
#: Every file whose change changes the page.
WATCHED = (RESULT, STATUS, MANIFEST, CONFIG, METRICS)


@dataclass(kw_only=True)
class RunFiles:
    """What one run folder holds.

    Attributes:
        folder: where.
        result: `result.json`, checked against its schema; empty where the run has not ended.
        status: `status.json`.
        manifest: `manifest.json`.
        config: `config_resolved.yaml`.
        metrics: `metrics.csv`, a list of one value an epoch for each column; None where a cell is empty.
        choices: Hydra's choices, group to option; empty where Hydra did not start this run itself.
        overrides: Hydra's overrides of this very job.
        sweep: whether the job was one of a sweep.
        problems: one line for each file that could not be read.
    """

    folder: Path
    result: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, list[float | None]] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    sweep: bool = False
    problems: list[str] = field(default_factory=list)


def run_folders(roots: Sequence[Path]) -> list[Path]:
    """Folders at or below `roots` that hold a run, each once, in the order of their names (2 before 10).

    A run is a `result.json`, or a `status.json` beside a config: one that goes on or failed. Links to folders are not
    followed, hidden folders not entered.
    """
    found: dict[Path, None] = {}
    for root in roots:
        for place, folders, files in os.walk(root):
            folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_natural)
            if RESULT in files or (STATUS in files and CONFIG in files):
                found[Path(place).resolve()] = None
    return list(found)


def _natural(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def read_run(folder: Path) -> RunFiles:
    """Read a run folder; never raises for what its files hold."""
    run = RunFiles(folder=folder)
    run.result = _mapping(run, RESULT, json.loads)
    run.status = _mapping(run, STATUS, json.loads)
    run.manifest = _mapping(run, MANIFEST, json.loads)
    run.config = {key: value for key, value in _mapping(run, CONFIG, _yaml).items() if key != DERIVED}
    hydra = _mapping(run, HYDRA, _yaml)
    runtime = dig(hydra, "hydra.runtime") or dig(hydra, "runtime")
    run.choices = runtime.get("choices", {}) if isinstance(runtime, Mapping) else {}
    run.sweep = "MULTIRUN" in str(dig(hydra, "hydra.mode"))
    overrides = _read(run, OVERRIDES, _yaml)
    run.overrides = [str(each) for each in overrides] if isinstance(overrides, list) else []
    run.metrics = _metrics(run)
    for message in _misfits(run.result):
        run.problems.append(f"{folder / RESULT}: left out, it does not fit its schema: {message}")
        run.result = {}
        break
    return run


def _read(run: RunFiles, name: str, parse: Any) -> Any:
    path = run.folder / name
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except Exception as error:
        # parsers raise kinds of their own (yaml.YAMLError, RecursionError); one bad file must not cost the page
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        run.problems.append(f"{path}: cannot be read: {reason}")
        return None


def _mapping(run: RunFiles, name: str, parse: Any) -> Mapping[str, Any]:
    found = _read(run, name, parse)
    if found is None or isinstance(found, Mapping):
        return found or {}
    run.problems.append(f"{run.folder / name}: not a mapping")
    return {}


def _yaml(text: str) -> Any:
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def dig(tree: Any, path: str) -> Any:
    """What stands at a dotted path of nested mappings; None where nothing does."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _metrics(run: RunFiles) -> dict[str, list[float | None]]:
    rows = _read(run, METRICS, lambda text: list(csv.DictReader(text.splitlines())))
    if not rows:
        return {}
    columns = [name for name in rows[0] if name]
    return {name: [_number(row.get(name)) for row in rows] for name in columns}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    # NaN and the infinities are no JSON
    return float(f"{value:.6g}") if abs(value) < float("inf") else None


@functools.cache
def _validator(path: str) -> Any:
    import jsonschema

    text = (resources.files("kdrobust") / path).read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _misfits(result: Mapping[str, Any]) -> Iterator[str]:
    if not result:
        return
    schemas = {"tracking/schema/result.json": [result]}
    schemas["evaluation/schema/evaluation.json"] = list(evaluations(result))
    for schema, documents in schemas.items():
        for document in documents:
            for error in _validator(schema).iter_errors(document):
                yield f"{error.json_path}: {error.message[:200]}"


def evaluations(result: Mapping[str, Any]) -> Iterator[Any]:
    """Every evaluation in a stage's result: its own one, and those of the models it compares."""
    if "evaluation" in result:
        yield result["evaluation"]
    models = result.get("models", [])
    for model in models if isinstance(models, list) else []:
        for one in model.get("results", []) if isinstance(model, Mapping) else []:
            if isinstance(one, Mapping) and "evaluation" in one:
                yield one["evaluation"]
