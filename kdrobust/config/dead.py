"""Keys that nothing reads: what `+` on the command line, or a typing error in a YAML file, leaves behind."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.interpolations import walk
from kdrobust.config.schema import METHOD_ATTACK_KEYS, METHOD_KEYS, RULES
from kdrobust.config.suggest import did_you_mean


def _references(root: DictConfig) -> set[str]:
    """Absolute keys that some interpolation of a config names, relative ones (`${...alpha}`) resolved."""
    named: set[str] = set()
    for key, _, _, child in walk(root):
        if child is None or not child._is_interpolation():
            continue
        text = str(child._value())
        for match in re.finditer(r"\$\{(?:oc\.select:)?(\.*)([A-Za-z_][\w.]*)(?=[},])", text):
            dots, path = len(match[1]), match[2]
            if dots:
                above = key.split(".")[:-dots]
                path = ".".join([*above, path])
            pieces = path.split(".")
            named.update(".".join(pieces[: count + 1]) for count in range(len(pieces)))
    return named


def dead_keys(node: DictConfig, key: str = "method") -> list[str]:
    """Keys of a method that nothing reads, such as a misspelt one that `+method.temprature=4` has forced in.

    A key is alive if stages read it by name (`terms`, `attack`, `temperature` ...) or an interpolation anywhere in the
    config names it.

    Args:
        node: the method's node, inside its root config.
        key: where it stands.

    Returns:
        One line a dead key.
    """
    root = node._get_root()
    assert isinstance(root, DictConfig)
    alive = _references(root)
    names = [str(name) for name in node]
    problems = []
    known = [*METHOD_KEYS, *(name for name in names if f"{key}.{name}" in alive)]
    for name in names:
        if name not in known:
            close = did_you_mean(name, known, prefix=f"{key}.")
            problems.append(f"{key}.{name}: nothing reads it{close or f'; remove it with ~{key}.{name}'}")
    attack = node.get("attack") if not OmegaConf.is_missing(node, "attack") else None
    for name in map(str, attack) if isinstance(attack, DictConfig) else ():
        full = f"{key}.attack.{name}"
        if name not in METHOD_ATTACK_KEYS and full not in alive:
            problems.append(
                f"{full}: nothing reads it{did_you_mean(name, METHOD_ATTACK_KEYS, prefix=f'{key}.attack.')}"
            )
    return problems


def dead_additions(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Keys that `+epoch=3` has forced into the top of a config, where nothing reads them; one line each.

    Args:
        cfg: a composed config with Hydra's own node.
        overrides: the command line's.
    """
    known = {key.split(".")[0] for key in RULES}
    choices = {str(choice) for choice in cfg.hydra.runtime.choices}
    alive = _references(cfg)
    problems = []
    for override in overrides:
        key = override.lstrip("+").partition("=")[0].strip()
        if not override.startswith("+") or "." in key or key in choices or key in known or key in alive:
            continue
        if key not in cfg:
            # a list of options, `+wrap=[igdm,awp]`: Hydra notes no choice of them
            continue
        others = [str(name) for name in cfg if name not in ("hydra", key)]
        problems.append(f"{override}: nothing reads {key}{did_you_mean(key, others)}")
    return problems
