"""Interpolations of kdrobust's configs: arithmetic on fractions, names of choices, the run folder."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.names import subject_name
from kdrobust.config.numbers import as_number

_RUN_FOLDER = "<run folder>"
_MEMO = "kdrobust_run_folder"


def _mul(a: Any, b: Any) -> float:
    return as_number(a) * as_number(b)


def _div(a: Any, b: Any) -> float:
    divisor = as_number(b)
    if divisor == 0:
        raise ValueError(f"division by zero in {a}/{b}")
    return as_number(a) / divisor


def _add(a: Any, b: Any) -> float:
    return as_number(a) + as_number(b)


def _sub(a: Any, b: Any) -> float:
    return as_number(a) - as_number(b)


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    """`${if:SWITCH,a,b}`: a where a switch is true, else b."""
    if not isinstance(condition, bool):
        raise ValueError(f"expected true or false, got {condition!r}")
    return then if condition else otherwise


def slug(text: Any) -> str:
    """A safe piece of a file name: letters, digits, `.`, `_` and `-`; `8/255` becomes `8-255`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(text)).strip("-.") or "run"


def _choice(group: str, *, _root_: DictConfig) -> str:
    """The option taken from a group, e.g. `${choice:model@student}`."""
    from hydra.core.hydra_config import HydraConfig

    root: Any = _root_
    if "hydra" not in root and HydraConfig.initialized():
        root = HydraConfig.instance().cfg
    choices = OmegaConf.select(root, "hydra.runtime.choices") or {}
    if group not in choices:
        raise ValueError(f"this stage has no choice of {group}")
    return "none" if choices[group] is None else str(choices[group])


def _settle(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _settle(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_settle(item, folder) for item in value]
    if isinstance(value, str) and (value == folder or value.startswith(folder + "/")):
        return _RUN_FOLDER + value[len(folder) :]
    return value


def _resolved(cfg: DictConfig, key: str) -> Any:
    value = "???" if OmegaConf.is_missing(cfg, key) else cfg[key]
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=False)
    return value


def config_hash(cfg: DictConfig) -> str:
    """SHA-256 of what a config says: canonical JSON of the resolved values, in hex.

    Hydra's own node, the nodes `run` and `derived` and the run folder's path do not count: where a run is written does
    not change what it computes, and what is derived follows from the rest. A composed config and its resolved form hash
    alike.

    Args:
        cfg: the root of a composed config.
    """
    # Hydra's node stays while values are resolved: ${choice:...} reads it
    own = copy.deepcopy(cfg)
    OmegaConf.set_readonly(own, False)
    folder = OmegaConf.select(own, "run.folder")
    if folder is None and "run" in own:
        folder = _RUN_FOLDER
        OmegaConf.update(own, "run.folder", folder, force_add=True)
    plain = {str(key): _resolved(own, str(key)) for key in own if key not in ("hydra", "run", "derived")}
    canonical = json.dumps(_settle(plain, str(folder)), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _finished(folder: Path) -> bool:
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(status, dict) and status.get("status") == "completed"


def run_folder(cfg: DictConfig, *, reuse_finished: bool = False) -> Path:
    """The folder a run of this config works in: `<run.root>/<stage>/<run.name>-<first 8 of the hash>`.

    `run.folder` wins where it is set. An unfinished run's folder is taken again, so the same command resumes it; a
    finished one's never is: `-2`, `-3` ... is appended.

    Args:
        cfg: the root config, with `stage` and `run`.
        reuse_finished: return the finished run's folder instead, for those who want its result.
    """
    explicit = OmegaConf.select(cfg, "run.folder")
    if explicit is not None:
        return Path(str(explicit)).expanduser()
    root = OmegaConf.select(cfg, "run.root") or "outputs"
    digest = config_hash(cfg)
    base = Path(str(root)).expanduser() / slug(cfg.stage) / f"{slug(cfg.run.name)}-{digest[:8]}"
    if reuse_finished:
        return base
    folder, count = base, 1
    while _finished(folder):
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def _run_folder_resolver(*, _root_: DictConfig) -> str:
    # the answer is kept with the config object (and its copies): once its run has finished it stays the same, while
    # another config, or the same command given again in this process, asks anew
    memo = OmegaConf.get_cache(_root_).setdefault(_MEMO, {})
    explicit = OmegaConf.select(_root_, "run.folder")
    key = str(explicit) if explicit is not None else config_hash(_root_)
    if key not in memo:
        memo[key] = str(run_folder(_root_))
    return str(memo[key])


def register() -> None:
    """Make the resolvers known to OmegaConf; may be called any number of times."""
    resolvers: dict[str, Callable[..., Any]] = {
        "mul": _mul,
        "div": _div,
        "add": _add,
        "sub": _sub,
        "if": _if,
        "frac": as_number,
        "slug": slug,
        "choice": _choice,
        "subject": subject_name,
        "run_folder": _run_folder_resolver,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
