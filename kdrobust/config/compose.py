"""Composition without a command line: a stage's config, or one option of one group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.aliases import check_aliases
from kdrobust.config.build import as_numbers
from kdrobust.config.check import summary
from kdrobust.config.interpolations import walk
from kdrobust.config.messages import composition_problems
from kdrobust.config.paths import conf_dir, register_search_path, user_conf_dir
from kdrobust.config.resolvers import register
from kdrobust.config.schema import FIRST_KEYS
from kdrobust.errors import UsageError

#: What may be null, or holds several, has a better remedy.
_INSTEAD = {
    "callbacks": "leave single ones out by ~callbacks.NAME",
    "logger": "leave single ones out by ~logger.NAME",
    "scheduler": "for a constant learning rate scheduler=constant",
    "attack": "for clean inputs attack=none",
    "teacher": "for a training without one method=pgd_at",
}


def load(
    config_name: str | None,
    overrides: Sequence[str],
    *,
    multirun: bool = False,
    loader: Any = None,
    folder: Path | None = None,
) -> DictConfig:
    """Compose a primary config with Hydra's own node in it.

    Args:
        config_name: the primary config; None for an empty one.
        overrides: as on the command line.
        multirun: whether values may be sweeps.
        loader: Hydra's config loader where there is one already.
        folder: a further config folder of the user's.

    Raises:
        UsageError: anything that composition refuses, all of it, one line each.
    """
    from hydra.types import RunMode

    register()
    _refuse_deletions(config_name, overrides)
    for own in (folder, user_conf_dir()):
        for path in own.rglob("*.yaml") if own is not None else ():
            check_aliases(path)
    loader = loader or _new_loader(folder)
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN

    def attempt(lines: Sequence[str]) -> DictConfig:
        cfg: DictConfig = loader.load_configuration(config_name=config_name, overrides=list(lines), run_mode=mode)
        return cfg

    try:
        return attempt(overrides)
    except Exception as error:
        raise UsageError(summary(composition_problems(error, overrides, attempt, loader, config_name))) from error


def _refuse_deletions(config_name: str | None, overrides: Sequence[str]) -> None:
    """Refuse `~trainer` and its like: every stage reads its own first keys, if only to see that they are null."""
    if config_name is None:
        return
    for text in overrides:
        found = re.fullmatch(r"~(\w+)(=.*)?", text)
        if found and found[1] in FIRST_KEYS:
            key, remedy = found[1], _INSTEAD.get(found[1], "choose another by {key}=..., or leave ~{key} out")
            raise UsageError(f"~{key}: {config_name} needs it; {remedy.format(key=key)}")


def _new_loader(folder: Path | None) -> Any:
    from hydra import version
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.utils import setup_globals

    version.setbase("1.3")
    register_search_path()
    setup_globals()
    search_path = create_config_search_path(str(conf_dir()))
    if folder is not None:
        anchor = SearchPathQuery(provider="main")
        search_path.prepend(provider="command-line", path=f"file://{folder}", anchor=anchor)
    return ConfigLoaderImpl(search_path)


def settle_choices(cfg: DictConfig) -> None:
    """Replace every `${choice:...}` by the option it names: it reads Hydra's node, which a run's config has not."""
    for _, parent, name, child in walk(cfg):
        if child is not None and child._is_interpolation() and "${choice:" in str(child._value()):
            parent[name] = parent[name]


def compose(stage: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config that `kdrobust STAGE OVERRIDES` would run, without Hydra's node.

    Args:
        stage: name of a primary config.
        overrides: as on the command line.

    Raises:
        UsageError: anything that composition refuses.
    """
    cfg = load(stage, overrides)
    with open_dict(cfg):
        try:
            settle_choices(cfg)
        except OmegaConfBaseException as error:
            raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
        del cfg["hydra"]
    return cfg


def _settled(parent: Any, name: Any, child: Any) -> Any:
    if isinstance(child, DictConfig) and not child._is_interpolation():
        return {str(key): _settled(child, key, child._get_node(key)) for key in child}
    if isinstance(child, ListConfig) and not child._is_interpolation():
        return [_settled(child, index, child._get_node(index)) for index in range(len(child))]
    try:
        value = parent[name]
    except OmegaConfBaseException:
        return str(child._value())
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def compose_group(group: str, option: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """One option of one group on its own, plain, with numbers and fractions read as floats.

    Interpolations that reach outside the group (`${threat.eps}`) stay the text they are.

    Args:
        group: e.g. `method`.
        option: e.g. `rslad`.
        overrides: with full keys, e.g. `method.alpha=0.3`.

    Raises:
        UsageError: anything that composition refuses.
    """
    cfg = load(None, [f"+{group}={option}", *overrides])
    plain: dict[str, Any] = as_numbers(_settled(cfg, group, cfg._get_node(group)))
    return plain
