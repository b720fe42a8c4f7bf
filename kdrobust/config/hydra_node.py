"""Hydra's own node: what it names is imported and called by Hydra itself, so it is held to a list of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.build import trusted_modules
from kdrobust.config.interpolations import walk
from kdrobust.config.suggest import did_you_mean
from kdrobust.config.targets import below

#: Packages whose plugins Hydra may be told to use.
PLUGINS = (
    "hydra._internal.core_plugins",
    "hydra_plugins.hydra_joblib_launcher",
    "hydra_plugins.hydra_submitit_launcher",
    "hydra.experimental.callbacks",
)
_HANDLERS = (
    "logging.StreamHandler",
    "logging.FileHandler",
    "logging.NullHandler",
    "logging.handlers.RotatingFileHandler",
)
_FACTORIES = ("colorlog.ColoredFormatter",)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
# what makes the next process of this run execute something else
_LOADERS = re.compile(r"^(LD_|DYLD_|PYTHON|PATH$|BASH_ENV$|ENV$)")


def hydra_problems(cfg: DictConfig) -> list[str]:
    """What Hydra's node names that must not be imported, called or set, one line each.

    Args:
        cfg: a composed config with its node `hydra`: launcher, sweeper and callbacks by `_target_`, the two logging
            configurations (whose `()` and `class` Python's logging imports), and the environment of a job.
    """
    allowed = [*PLUGINS, *trusted_modules(cfg)]
    # `env` is a group of Hydra's that its class does not have
    names = [*(entry.name for entry in fields(HydraConf)), "env"]
    given = OmegaConf.select(cfg, "hydra", throw_on_missing=False)
    problems = [
        f"hydra.{name}: no such key{did_you_mean(name, names, prefix='hydra.')}"
        for name in (map(str, given) if isinstance(given, DictConfig) else ())
        if name not in names
    ]
    for key, value in _leaves(cfg):
        name = key.rpartition(".")[2]
        logging = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        if name == "_target_" and not below(str(value), allowed):
            problems.append(
                f"{key}: {value} is not allowed; Hydra's launchers and sweepers are chosen by hydra/launcher=NAME"
            )
        elif logging and name == "()" and value not in _FACTORIES:
            problems.append(f"{key}: {value} is not allowed; a factory of loggers can be {', '.join(_FACTORIES)}")
        elif logging and name == "class" and value not in _HANDLERS:
            problems.append(f"{key}: {value} is not allowed; a handler is one of {', '.join(_HANDLERS)}")
        elif logging and isinstance(value, str) and value.startswith(("ext://", "cfg://")) and value not in _STREAMS:
            problems.append(f"{key}: {value} is not allowed; a stream is one of {', '.join(_STREAMS)}")
        elif key.startswith("hydra.job.env_set.") and _LOADERS.match(name):
            problems.append(
                f"{key}: is not set from a config, as it decides what later processes run; export it yourself"
            )
    return problems


def task_overrides(node: Any) -> list[str]:
    """A job's overrides as they were typed: in the list that Hydra keeps, `${a}` would be read as a reference.

    Args:
        node: Hydra's own.
    """
    typed: Any = OmegaConf.to_container(node.overrides.task, resolve=False)
    return [str(line) for line in typed]


def _leaves(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    node = OmegaConf.select(cfg, "hydra", throw_on_missing=False)
    if not isinstance(node, DictConfig):
        return
    for key, parent, name, child in walk(node, "hydra"):
        if child is None or child._is_missing() or (OmegaConf.is_config(child) and not child._is_interpolation()):
            continue
        try:
            value = parent[name]
        except OmegaConfBaseException:
            continue
        if OmegaConf.is_config(value):
            # an interpolation to a whole node, which may lie anywhere
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in _plain_leaves(value))
        else:
            yield key, value


def _plain_leaves(value: Any) -> Iterator[tuple[str, Any]]:
    for key, parent, name, child in walk(value):
        if child is not None and not OmegaConf.is_config(child):
            try:
                yield key, parent[name]
            except OmegaConfBaseException:
                continue
