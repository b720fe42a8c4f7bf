"""Keys that nothing reads: what `+` on the command line, or a typing error in a YAML file, leaves behind."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.interpolations import walk
from kdrobust.config.schema import METHOD_ATTACK_KEYS, METHOD_KEYS, PLAIN_KEYS, RULES
from kdrobust.config.suggest import available, did_you_mean

#: Mappings whose every child may be added: empty until then, or checked by what reads them.
_OPEN = ("notes", "teachers", "partners", "callbacks", "logger")


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
    """Keys that `+epoch=3` or `+x.y=3` has forced into a config that has no such first key; one line each.

    Args:
        cfg: a composed config with Hydra's own node.
        overrides: the command line's.
    """
    added = [override.lstrip("+").partition("=")[0].strip() for override in overrides if override.startswith("+")]
    foreign = _only_added(cfg, added)
    known = {key.split(".")[0] for key in RULES} - foreign
    choices = {str(choice) for choice in cfg.hydra.runtime.choices} - foreign
    alive = _references(cfg)
    problems = []
    for override in overrides:
        key = override.lstrip("+").partition("=")[0].strip()
        first = key.partition(".")[0]
        if not override.startswith("+") or first in known or {key, first} & choices or {key, first} & alive:
            continue
        if first not in cfg or first == "hydra":
            # a list of options, `+wrap=[igdm,awp]`: Hydra notes no choice of them
            continue
        others = [str(name) for name in cfg if name not in ("hydra", first)]
        own = f"; words of your own: +notes.{key.rpartition('.')[2]}="
        problems.append(f"{override}: nothing reads {key}{did_you_mean(first, others) or own}")
    return problems


def _only_added(cfg: DictConfig, added: Sequence[str]) -> set[str]:
    """First keys of a stage other than this one: all that stands below them was added by an override."""
    below: dict[str, set[str]] = {}
    for key in added:
        first, _, rest = key.partition(".")
        if rest:
            below.setdefault(first, set()).add(rest.partition(".")[0])
    nodes = {first: cfg.get(first) for first in below if first not in _OPEN}
    return {first for first, node in nodes.items() if isinstance(node, DictConfig) and set(node) <= below[first]}


def plain_problems(cfg: DictConfig) -> list[str]:
    """Keys of `PLAIN_KEYS`' mappings that nothing reads, one line each.

    Args:
        cfg: a composed config: in a resolved one no interpolation is left to say what is read.
    """
    problems = []
    alive: set[str] | None = None
    for place, known in PLAIN_KEYS.items():
        node = OmegaConf.select(cfg, place, throw_on_missing=False)
        for name in map(str, node) if isinstance(node, DictConfig) else ():
            if name in known:
                continue
            alive = _references(cfg) if alive is None else alive
            if f"{place}.{name}" not in alive:
                close = did_you_mean(name, known, prefix=f"{place}.")
                problems.append(f"{place}.{name}: nothing reads it{close or f'; it takes {available(known)}'}")
    return problems
