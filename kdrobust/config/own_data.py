"""The data of a checkpoint's own run, where a stage that reads one is given no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.resolved import read_resolved
from kdrobust.errors import CheckpointError

#: Stages that read a checkpoint and the data it is for, and the key that names it.
_READERS = {"evaluate": "checkpoint", "export": "checkpoint", "outputs": "teacher.checkpoint"}
#: What belongs to a training's own use of its data, and stays as it is composed.
_OF_TRAINING = ("seed", "augmentation", "unlabelled", "limit_train", "limit_validation", "limit_test", "root")


def adopt_data(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Let a stage read the data that its checkpoint was trained on, unless `data=` or an experiment names others.

    The node comes from the config in the checkpoint's folder. Single keys (`data.limit_test=100`) are laid over it.
    What it names is held to the same list of allowed packages as anything typed.

    Args:
        cfg: composed, changed in place.
        overrides: the command line's, as they were typed.
    """
    keys = [text.lstrip("+~").partition("=")[0].strip() for text in overrides]
    if any(key in ("data", "experiment") or key.startswith("data@") for key in keys):
        return
    own = _data_of(cfg)
    if own is None:
        return
    typed = cfg.data
    given = [key.removeprefix("data.") for key in keys if key.startswith("data.")]
    given += ["transform"] if any(key.startswith("transform@data.transform") for key in keys) else []
    kept = [key for key in _OF_TRAINING if key in typed]
    values = {key: OmegaConf.select(typed, key) for key in (*kept, *given)}
    with open_dict(cfg):
        cfg.data = own
        for key, value in values.items():
            OmegaConf.update(cfg.data, key, value, force_add=True)


def _data_of(cfg: DictConfig) -> dict[str, Any] | None:
    """The data of the run that made the checkpoints a config names, plain; None where they have none in common."""
    try:
        key = _READERS.get(str(cfg.get("stage")))
    except OmegaConfBaseException:
        return None  # the check of values says what is wrong with it
    named = OmegaConf.select(cfg, key, throw_on_missing=False) if key else None
    paths = [str(each) for each in named] if isinstance(named, ListConfig) else [str(named)] if named else []
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            node = read_resolved(Path(path).expanduser().parent).get("data")
        except CheckpointError:
            return None
        if not isinstance(node, DictConfig):
            return None
        plain: Any = OmegaConf.to_container(node)
        found.append({key: value for key, value in plain.items() if key not in _OF_TRAINING})
    return found[0] if found and all(each == found[0] for each in found) else None
