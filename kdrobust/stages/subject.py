"""What an evaluation measures: a checkpoint of ours, or a model from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import nn

from kdrobust.attacks import check_logits
from kdrobust.config import instantiate, to_plain
from kdrobust.data import DataModule
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models import (
    check_answers,
    check_class_names,
    check_form,
    check_network,
    check_spec,
    file_hash,
    load_imported,
    load_robustbench,
    load_timm,
    load_torchscript,
    normalised,
    read_checkpoint,
    restore_classifier,
    stored_spec,
)
from kdrobust.stages.setup import require_file
from kdrobust.stages.shown import restore_teacher

#: Keys under `model` of which one names where a foreign model comes from.
SOURCES = ("robustbench", "timm", "torchscript", "import")
#: Further keys under `model`, and the sources that read them.
_READERS = {
    "weights": ("timm", "import"),
    "arguments": ("robustbench", "timm", "import"),
    "normalize": ("timm", "torchscript", "import"),
    "prefix": ("timm", "import"),
    "trust": ("torchscript", "timm", "import"),
}
_ROBUSTBENCH_ARGUMENTS = ("dataset", "threat_model", "model_dir")
_SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to be evaluated.

    Attributes:
        model: pixels in [0, 1] to logits, in eval mode, on the CPU.
        name: short, for tables: the checkpoint's folder, or the foreign model's own name.
        origin: where it comes from, plain values: `path` and `sha256` of a checkpoint, or `source`, `name` and what
            else decides which model that is.
        threat: the threat model it was trained against, plain values; empty where none is known.
    """

    model: nn.Module
    name: str
    origin: dict[str, Any]
    threat: dict[str, Any] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """What `result.json` says of it: `checkpoint`, or `subject` of a foreign model; `trained_for` where known."""
        trained = {"trained_for": self.threat} if self.threat else {}
        return {"checkpoint" if "source" not in self.origin else "subject": self.origin, **trained}


def subject_problems(cfg: DictConfig) -> list[str]:
    """What is wrong with a config's choice of model, one line each; no file is touched.

    Exactly one of `checkpoint` and the sources under `model` must be given, and no key that its source does not read.
    """
    node = _node(cfg)
    named = [f"model.{source}" for source in SOURCES if node.get(source) is not None]
    given = [*(["checkpoint"] if checkpoints(cfg) else []), *named]
    sources = ", ".join(f"model.{source}" for source in SOURCES)
    if not given:
        return [f"checkpoint: not given; set checkpoint=.../best.ckpt, or one of {sources} for a model from elsewhere"]
    if len(given) > 1:
        return [f"{' and '.join(given)}: give one of them, the evaluation measures one model"]
    source = given[0].removeprefix("model.")
    problems = [
        f"model.{key}: {given[0]} does not read it; it is for {', '.join(f'model.{each}' for each in readers)}"
        for key, readers in _READERS.items()
        if node.get(key) and source not in readers
    ]
    if source == "robustbench":
        strange = [key for key in node.get("arguments") or {} if key not in _ROBUSTBENCH_ARGUMENTS]
        problems += [
            f"model.arguments.{key}: nothing reads it; there are {', '.join(_ROBUSTBENCH_ARGUMENTS)}" for key in strange
        ]
    return problems


def require_subject(cfg: DictConfig) -> None:
    """Refuse what can be refused before data are read: files that are missing, damaged or of data of another form.

    Raises:
        UsageError: a file that does not exist, or a script that is not trusted.
        CheckpointError: a checkpoint that cannot be read, of a network that is not trusted, or of other data than are
            announced.
    """
    node = _node(cfg)
    announced = instantiate(cfg.data).announced if cfg.get("data") is not None else None
    for path in checkpoints(cfg):
        file = _checkpoint(path)
        try:
            checkpoint = read_checkpoint(file)
            check_network(checkpoint, file)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint={error}") from None
        if announced is not None:
            check_form(stored_spec(checkpoint), announced, f"checkpoint={file}")
    if node.get("torchscript") is not None:
        load_torchscript(_script(node), trust=bool(node.get("trust")))
    _weights(node)


def load_subject(cfg: DictConfig, data: DataModule) -> Subject:
    """The model that a config of stage `evaluate` names, checked against the data.

    Args:
        cfg: with `checkpoint` or `model`; `threat`, `data` and `trusted_modules` where a source asks for them.
        data: prepared; a foreign model answers a few of its test samples.

    Raises:
        UsageError: none or several models are named, a package is missing, or a path is not trusted.
        CheckpointError: a file that cannot be read, or a model of other inputs or classes.
        AttackError: answers that are no logits.
    """
    problems = subject_problems(cfg)
    if problems:
        raise UsageError(problems[0])
    for path in checkpoints(cfg):
        return own_subject(_checkpoint(path), data)
    node = _node(cfg)
    source = next(key for key in SOURCES if node.get(key) is not None)
    key, name = f"model.{source}", str(node[source])
    network, origin = _load(source, name, node, cfg, data)
    model = normalised(network, spec=data.spec, normalize=node.get("normalize")).eval()
    test = data.split("test")
    rows = torch.arange(min(_SAMPLES, len(test.labels)))
    logits = check_answers(model, test.pixels(rows), classes=data.spec.classes, what=f"{key}={name}")
    check_logits(logits, test.labels[rows])
    short = Path(name).stem if source == "torchscript" else name
    settings = {"normalize": node["normalize"]} if node.get("normalize") else {}
    return Subject(model=model, name=short, origin={"source": source, "name": name, **origin, **settings})


def checkpoints(cfg: DictConfig) -> list[str]:
    """The checkpoints a config names: none, one, or several to be compared."""
    value = cfg.get("checkpoint")
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, ListConfig) else [str(value)]


def load_subjects(cfg: DictConfig, data: DataModule) -> list[Subject]:
    """All models that a config of stage `evaluate` names, their names made different.

    Raises:
        UsageError: see `load_subject`; a checkpoint that is named twice.
        CheckpointError: see `load_subject`.
    """
    named = checkpoints(cfg)
    if len(named) < 2:
        return [load_subject(cfg, data)]
    twice = next((path for path in named if named.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"checkpoint: {twice} is named twice")
    subjects = [own_subject(_checkpoint(path), data) for path in named]
    names = [subject.name for subject in subjects]
    return [
        replace(subject, name=f"{subject.name}_{place}") if names.count(subject.name) > 1 else subject
        for place, subject in enumerate(subjects)
    ]


def teacher_of(subject: Subject, data: DataModule) -> Subject | None:
    """The teacher a student of ours learnt from, where its result says which and the file is still the same.

    Args:
        subject: a student from a checkpoint; its `result.json` lies beside it.
        data: what both are evaluated on.
    """
    try:
        result = json.loads((Path(subject.origin["path"]).parent / "result.json").read_text(encoding="utf-8"))
        told = result["teacher"]
        path = Path(told["checkpoint"])
        same = file_hash(path) == told["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same:
        return None
    model = restore_teacher(path, data.spec, told.get("transform")).eval()
    return Subject(model=model, name="teacher", origin={"path": str(path), "sha256": told["sha256"]})


def own_subject(path: Path, data: DataModule) -> Subject:
    """A checkpoint of ours as a subject, checked against the data.

    Raises:
        CheckpointError: see `kdrobust.models.restore_classifier`; or it belongs to other data, or to as many classes
            of other names.
    """
    checkpoint, told = read_checkpoint(path), f"checkpoint={path}"
    check_spec(checkpoint, data.spec, told)
    check_class_names(stored_spec(checkpoint), data.spec, told)
    return Subject(
        model=restore_classifier(path, checkpoint).eval(),
        name=path.resolve().parent.name,
        origin={"path": str(path), "sha256": file_hash(path)},
        threat=dict(checkpoint["kdrobust"].get("threat") or {}),
    )


def _load(
    source: str, name: str, node: Mapping[str, Any], cfg: DictConfig, data: DataModule
) -> tuple[nn.Module, dict[str, Any]]:
    """The bare network, and what beside source and name decides which one it is."""
    arguments = dict(node.get("arguments") or {})
    if source == "robustbench":
        place = {
            "dataset": str(arguments.get("dataset", data.name)),
            "norm": str(arguments.get("threat_model", cfg.threat.norm)),
        }
        folder = Path(str(arguments.get("model_dir", Path(str(cfg.data.root)) / "robustbench")))
        model = load_robustbench(name, **place, folder=folder)
        # where RobustBench keeps a model of one file; ensembles and timm's have several, or another place
        files = sorted(folder.glob(f"{place['dataset']}/*/{name}.pt"))
        hashes = {"weights": {"path": str(files[0]), "sha256": file_hash(files[0])}} if len(files) == 1 else {}
        return model, {**place, **hashes}
    if source == "torchscript":
        script = _script(node)
        return load_torchscript(script, trust=bool(node.get("trust"))), {"sha256": file_hash(script)}
    weights, origin = _weights(node), {"arguments": arguments} if arguments else {}
    trust = bool(node.get("trust"))
    if weights is not None:
        origin["weights"] = {"path": str(weights), "sha256": file_hash(weights)}
    prefix = node.get("prefix")
    read: dict[str, Any] = {"weights": weights, "arguments": arguments, "trust": trust, "prefix": prefix}
    if prefix is not None:
        origin["prefix"] = prefix
    if source == "timm":
        return load_timm(name, spec=data.spec, **read), origin
    trusted = [str(package) for package in cfg.get("trusted_modules") or []]
    return load_imported(name, trusted=trusted, **read), origin


def _node(cfg: DictConfig) -> dict[str, Any]:
    node = cfg.get("model")
    return {} if node is None else dict(to_plain(node))


def _checkpoint(path: str) -> Path:
    return require_file(path, "checkpoint", "train a model with `kdrobust teacher` or `kdrobust distill`")


def _script(node: Mapping[str, Any]) -> Path:
    return require_file(node["torchscript"], "model.torchscript", "save a model with torch.jit.save")


def _weights(node: Mapping[str, Any]) -> Path | None:
    if node.get("weights") is None:
        return None
    return require_file(node["weights"], "model.weights", "name a state dict (.pt, .pth or .safetensors)")
