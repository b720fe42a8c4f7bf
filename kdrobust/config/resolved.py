"""The one form of a run's config: every value written out, nothing left to interpolate. It is what is written and run.

A composed config still refers from key to key, and to Hydra: what it says depends on where and when it is read. Its
resolved form says the same to every process that reads it: the first one, another rank, a run after a kill, another
machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.aliases import check_aliases
from kdrobust.config.interpolations import walk
from kdrobust.errors import CheckpointError

#: The file of a run folder that holds its config.
FILE = "config_resolved.yaml"
#: The node for what follows from the rest of a composed config, and could not be worked out again from resolved
#: values: a teacher's config, say, in which `${epochs}` is the teacher's. Not part of the config's hash.
DERIVED = "derived"


def resolved(composed: DictConfig, derived: Mapping[str, Any] | None = None) -> DictConfig:
    """The resolved form of a composed config, as reading its file would give it.

    Args:
        composed: the root of a composed config that was checked; Hydra's own node is left out.
        derived: what becomes its node `derived`, plain.
    """
    plain = {key: _plain(composed, key) for key in map(str, composed) if key not in ("hydra", DERIVED)}
    return OmegaConf.create({**plain, DERIVED: dict(derived or {})})


def settings(cfg: DictConfig) -> dict[str, Any]:
    """A resolved config as plain values, without what follows from the rest: for those who show or log it."""
    return {str(key): _plain(cfg, str(key)) for key in cfg if key != DERIVED}


def _plain(composed: DictConfig, key: str) -> Any:
    value = composed[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def to_text(plain: Mapping[str, Any]) -> str:
    """Plain values as the YAML text of a config file."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(plain)))


def from_text(text: str) -> DictConfig:
    """A config from its YAML text.

    Raises:
        ValueError: no mapping, or one that is not resolved.
    """
    cfg = OmegaConf.create(text)
    if not isinstance(cfg, DictConfig) or "stage" not in cfg:
        raise ValueError("no config of a run")
    require_resolved(cfg)
    return cfg


def require_resolved(cfg: DictConfig) -> None:
    """Refuse a config in which anything refers to anything else.

    Raises:
        ValueError: names the key.
    """
    for key, _, _, child in walk(cfg):
        if child is not None and (child._is_interpolation() or child._is_missing()):
            raise ValueError(f"{key}: not resolved ({child._value()})")


def read_resolved(folder: Path) -> DictConfig:
    """The config that a run's folder holds.

    Raises:
        CheckpointError: there is none that can be read, or it is not resolved.
    """
    path = folder / FILE
    try:
        check_aliases(path)
        return from_text(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(f"{path}: no such file; every run of kdrobust leaves one") from None
    except Exception as error:
        # any YAML may stand there
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged: no resolved config of a run ({line})") from None
