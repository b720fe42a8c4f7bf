"""The keys of a primary config that are no component: their types and ranges, as data."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.numbers import as_number, is_number


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a key's value must be.

    Attributes:
        accepts: decides on a resolved, plain value.
        expected: the same in words.
    """

    accepts: Callable[[Any], bool]
    expected: str


#: Beyond these a machine is brought down, not used: threads of a process, processes of a node, nodes.
_THREADS, _PROCESSES, _NODES = 1024, max(64, 4 * (os.cpu_count() or 1)), 4096
#: What NumPy and Lightning take as a seed.
_LARGEST_SEED = 2**32 - 1


def _integer(least: int, most: int | None = None) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least and value <= (most or value)

    return accepts


def _devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_integer(0), value)) and len(value) <= _PROCESSES
    # Lightning reads `"2"` and `"0,1"`, too
    return value in (-1, "auto") or isinstance(value, str) or _integer(1, _PROCESSES)(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_number(item) for item in value)


def _seeds(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_integer(0), value)) and len(set(value)) == len(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _optional(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


_SEED = Rule(accepts=_integer(0, _LARGEST_SEED), expected="an integer >= 0 and < 2**32")
_EPOCHS = Rule(accepts=_integer(1, 10**6), expected="an integer >= 1 (and at most 1000000)")
_NODE = Rule(accepts=_mapping, expected="a mapping of keys (choose an option of this group)")
_NODE_OR_NULL = Rule(accepts=_optional(_mapping), expected="a mapping of keys, or null")
_TEXT_OR_NULL = Rule(accepts=_optional(_text), expected="a text, or null")

#: Dotted key to rule; keys that a stage does not have are not asked for.
RULES: dict[str, Rule] = {
    "seed": _SEED,
    "threads": Rule(
        accepts=lambda value: value == "auto" or _integer(1, _THREADS)(value),
        expected=f"auto, or an integer from 1 to {_THREADS}",
    ),
    "trainer.devices": Rule(
        accepts=_devices, expected=f"an integer from 1 to {_PROCESSES}, -1 or auto for all, or a list of device numbers"
    ),
    "trainer.num_nodes": Rule(accepts=_integer(1, _NODES), expected=f"an integer from 1 to {_NODES}"),
    "seeds": Rule(accepts=_seeds, expected="a list of different integers >= 0, e.g. [0,1,2]"),
    "epochs": _EPOCHS,
    "stage": Rule(accepts=_text, expected="the name of a stage"),
    "trusted_modules": Rule(accepts=_optional(_texts), expected="a list of package names, e.g. [my_losses]"),
    "checkpoint": Rule(
        accepts=_optional(lambda value: _text(value) or _texts(value)),
        expected="the path of a checkpoint, a list of several, or null",
    ),
    "evaluation.num_samples": Rule(accepts=_optional(_integer(1)), expected="an integer >= 1, or null for all samples"),
    "evaluation.seed": _SEED,
    "evaluation.batch_size": Rule(accepts=_integer(1), expected="an integer >= 1"),
    "evaluation.confidence": Rule(
        accepts=lambda value: is_number(value) and 0 < as_number(value) < 1, expected="a share in (0, 1)"
    ),
    "evaluation.latency": Rule(
        accepts=lambda value: value is None or isinstance(value, bool) or value == "auto",
        expected="true, false or auto",
    ),
    "format": Rule(
        accepts=lambda value: value in ("onnx", "torchscript", "torch_export"),
        expected="onnx, torchscript or torch_export",
    ),
    "quantize": Rule(
        accepts=lambda value: value in ("none", "dynamic_int8", "static_int8"),
        expected="none, dynamic_int8 or static_int8",
    ),
    "amount": Rule(accepts=lambda value: is_number(value) and 0 <= as_number(value) < 1, expected="a share in [0, 1)"),
    "calibration": Rule(accepts=_integer(1), expected="an integer >= 1"),
    "agreement": Rule(accepts=_integer(1), expected="an integer >= 1"),
    "compare": Rule(accepts=_optional(_text), expected="the path of a checkpoint, auto, or null"),
    "evaluated": Rule(accepts=_optional(_text), expected="a folder, auto, or null"),
    "radii": Rule(accepts=_optional(_numbers), expected="a list of numbers or fractions, smallest first, or null"),
    **{f"model.{key}": _TEXT_OR_NULL for key in ("robustbench", "timm", "torchscript", "import", "weights", "prefix")},
    "model.arguments": _NODE_OR_NULL,
    "model.normalize": Rule(accepts=_optional(_mapping), expected="{mean: [...], std: [...]}, or null"),
    "model.trust": Rule(accepts=lambda value: isinstance(value, bool), expected="true or false"),
    "teacher.checkpoint": _TEXT_OR_NULL,
    "teacher.outputs": _TEXT_OR_NULL,
    "teacher.transform": _NODE_OR_NULL,
    "teacher_training.data": _NODE_OR_NULL,
    "teacher_training.threat": _NODE_OR_NULL,
    **{
        f"{training}.{key}": _NODE_OR_NULL
        for training in ("teacher_training", "natural_training")
        for key in ("optimizer", "scheduler")
    },
    "teacher.precision": Rule(
        accepts=lambda value: value in ("auto", "exact", "fp32", "bf16"), expected="auto, exact, fp32 or bf16"
    ),
    "teacher.shared_views_gb": Rule(
        accepts=lambda value: is_number(value) and as_number(value) >= 0, expected="a number of gigabytes >= 0"
    ),
    "student.checkpoint": _TEXT_OR_NULL,
    "student.network": _NODE,
    "teacher.network": _NODE,
    "data.source": _NODE,
    **{
        key: rule
        for training in ("teacher_training", "natural_training")
        for key, rule in (
            (training, _NODE),
            (f"{training}.name", Rule(accepts=_text, expected="a text")),
            (f"{training}.seed", _SEED),
            (f"{training}.epochs", _EPOCHS),
            (f"{training}.method", _NODE),
            (f"{training}.attack", _NODE),
            (f"{training}.monitor", _TEXT_OR_NULL),
        )
    },
    "teachers": _NODE_OR_NULL,
    "partners": _NODE_OR_NULL,
    "features": _NODE_OR_NULL,
    "run": _NODE,
    "run.name": Rule(accepts=_text, expected="a text"),
    "run.root": Rule(accepts=_text, expected="a folder"),
    "run.folder": _TEXT_OR_NULL,
    "run.resume": Rule(
        accepts=_optional(lambda value: isinstance(value, bool | str)), expected="true, false, or a run folder"
    ),
    "data": _NODE,
    "student": _NODE,
    "teacher": _NODE,
    "model": _NODE,
    "method": _NODE,
    "attack": _NODE_OR_NULL,
    "threat": _NODE,
    "optimizer": _NODE,
    "scheduler": _NODE_OR_NULL,
    "scheduler.interval": Rule(accepts=lambda value: value in ("epoch", "step"), expected="epoch or step"),
    "trainer": _NODE,
    "callbacks": _NODE_OR_NULL,
    "logger": _NODE_OR_NULL,
    "evaluation": _NODE,
    **{
        f"evaluation.{key}": _NODE_OR_NULL
        for key in ("attacks", "transfer", "adaptive", "check_settings", "corruptions")
    },
    "evaluation.surrogates": Rule(accepts=_optional(_texts), expected="a list of checkpoints, or null"),
    "evaluation.fpr": Rule(accepts=_optional(_numbers), expected="a list of shares such as [0.01,0.05], or null"),
    "evaluation.threshold_on": _TEXT_OR_NULL,
    "evaluation.checks": Rule(accepts=lambda value: isinstance(value, bool), expected="true or false"),
    "notes": Rule(accepts=_optional(_mapping), expected="a mapping of what you want to keep with the run, or null"),
}

_NETWORK_KEYS = ("network", "normalize", "checkpoint")
#: Mappings that are no component, with all that is read of them beside what an interpolation names.
PLAIN_KEYS: dict[str, tuple[str, ...]] = {
    "run": ("name", "root", "folder", "resume", "trial", "sweep"),
    "student": _NETWORK_KEYS,
    "teacher": (*_NETWORK_KEYS, "outputs", "precision", "transform", "shared_views_gb"),
    "model": ("robustbench", "timm", "torchscript", "import", "weights", "prefix", "arguments", "normalize", "trust"),
    "evaluation": (
        *("num_samples", "seed", "batch_size", "precision", "confidence", "latency"),
        *("attacks", "transfer", "adaptive", "surrogates", "fpr", "threshold_on", "corruptions"),
        *("checks", "check_settings"),
    ),
    "baseline": ("method", "attack"),
    **dict.fromkeys(
        ("scheduler", "teacher_training.scheduler", "natural_training.scheduler"), ("factory", "interval", "monitor")
    ),
}
#: The keys that stages begin with.
FIRST_KEYS = frozenset(key for key in RULES if "." not in key)
#: Keys of a method that stages read by name; any other is alive only where an interpolation names it.
METHOD_KEYS = (
    "attack",
    "attack_target",
    "terms",
    "weighting",
    "sample_weight",
    "balance",
    "partners",
    "temperature",
    "reduction",
    "logits_transform",
)
#: Keys of a method's `attack` that an attack option may take up.
METHOD_ATTACK_KEYS = ("goal", "start", "steps", "step_size", "momentum", "restarts", "model_mode")


def shown(value: Any) -> str:
    """A plain value as it would be written in YAML, short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def schema_problems(cfg: DictConfig) -> list[str]:
    """Wrong types and ranges among the keys of `RULES`, one line each; missing values are not this check's matter."""
    problems = []
    for key, rule in RULES.items():
        try:
            parent = OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg
            if not isinstance(parent, DictConfig):
                continue
            name = key.rpartition(".")[2]
            if name not in parent or OmegaConf.is_missing(parent, name):
                continue
            value = parent[name]
            plain = {} if isinstance(value, DictConfig) else value
            if OmegaConf.is_list(value):
                plain = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException:
            continue
        if not rule.accepts(plain):
            problems.append(f"{key}: expected {rule.expected}, got {shown(plain)}")
    return problems
