"""Hydra's refusals as one line each: the key or choice as it was typed, what is wrong, and what was meant."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.build import first_line
from kdrobust.config.interpolations import walk
from kdrobust.config.suggest import available, did_you_mean

_MOST = 8
Attempt = Callable[[Sequence[str]], DictConfig]
Base = Callable[[], DictConfig | None]


def composition_problems(
    error: Exception, overrides: Sequence[str], attempt: Attempt, loader: Any, config_name: str | None
) -> list[str]:
    """Everything that composition refuses, not only the first.

    Each override that is to blame is told, dropped, and the rest tried again.

    Args:
        error: what the first attempt raised.
        overrides: what was given.
        attempt: composes with the overrides it is given.
        loader: Hydra's config loader, for the options of groups.
        config_name: the primary config.
    """
    attempt = _remembering(attempt)
    problems: list[str] = []
    remaining = list(overrides)
    current: Exception | None = error
    while current is not None and len(problems) < _MOST:
        culprit = _culprit(current, remaining, attempt)
        base = functools.partial(_base, current, tuple(remaining), attempt)
        problems.append(_line(current, culprit, base, loader, config_name))
        if culprit is None:
            break
        remaining.remove(culprit)
        # with no override left, only the files could be at fault: not what was asked about
        current = _failure(remaining, attempt) if _typed(remaining) else None
    return problems


def _remembering(attempt: Attempt) -> Attempt:
    answers: dict[tuple[str, ...], DictConfig | Exception] = {}

    def remembered(overrides: Sequence[str]) -> DictConfig:
        key = tuple(overrides)
        if key not in answers:
            try:
                answers[key] = attempt(overrides)
            except Exception as error:
                answers[key] = error
        answer = answers[key]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return remembered


def _failure(overrides: Sequence[str], attempt: Attempt) -> Exception | None:
    try:
        attempt(overrides)
    except Exception as error:
        return error
    return None


def _same(one: Exception | None, other: Exception) -> bool:
    return one is not None and type(one) is type(other) and first_line(_root(one)) == first_line(_root(other))


def _root(error: BaseException) -> BaseException:
    while str(error) == "" and error.__cause__ is not None:
        error = error.__cause__
    return error


def _culprit(error: Exception, overrides: Sequence[str], attempt: Attempt) -> str | None:
    """The override without which this error is gone; None if the config files themselves are at fault."""
    text = str(_root(error))
    named = [override for override in overrides if f"'{_key_of(override)}'" in text or f"'{override}'" in text]
    named += [line for line in overrides if line == getattr(error, "override", None)]
    if len(set(named)) == 1 and "In '" not in text:
        return named[0]
    for override in overrides:
        others = list(overrides)
        others.remove(override)
        if not _same(_failure(others, attempt), error):
            return override
    return None


def _typed(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not override.startswith("hydra.")]


def _base(error: Exception, overrides: Sequence[str], attempt: Attempt) -> DictConfig | None:
    """The config that an override did not fit into, or else the one that choices alone make."""
    parent = getattr(error.__cause__, "parent_node", None)
    root = parent._get_root() if isinstance(parent, Container) else None
    if isinstance(root, DictConfig) and "hydra" in root:
        return root
    for kept in ([line for line in overrides if _is_choice(line)], []):
        try:
            return attempt(kept)
        except Exception:
            continue
    return None


def _is_choice(override: str) -> bool:
    return "." not in override.partition("=")[0] and not override.startswith("~")


def _key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].strip()


def _options(loader: Any, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    try:
        found = loader.get_group_options(group, ObjectType.CONFIG)
    except Exception:
        return []
    return [name for name in found if not name.startswith("_")]


def _nested(loader: Any, group: str) -> list[str]:
    """A group's options, those in its folders with their path."""
    from hydra.core.object_type import ObjectType

    folders = loader.get_group_options(group, ObjectType.GROUP)
    inside = [f"{folder}/{option}" for folder in folders for option in _options(loader, f"{group}/{folder}")]
    return [*_options(loader, group), *inside]


def _is_addition(loader: Any, group: str, value: str) -> bool:
    """Whether an option says itself where it goes, so that it fits any config: a wrap, an average ..."""
    for name in value.strip("[]").split(","):
        found = loader.repository.load_config(f"{group}/{name.strip()}")
        if found is None or not found.header.get("package"):
            return False
    return True


def _choices(base: DictConfig | None) -> list[str]:
    return [] if base is None else [str(key) for key in base.hydra.runtime.choices if not str(key).startswith("hydra")]


def _line(error: Exception, culprit: str | None, base: Base, loader: Any, config_name: str | None) -> str:
    from hydra.errors import MissingConfigException, OverrideParseException, SearchPathException

    problem = _yaml_problem(error)
    if problem is not None:
        return problem
    if isinstance(error, SearchPathException):
        return f"--config-dir: {first_line(error)}"
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException):
        return _no_option(error, culprit, loader)
    text = str(_root(error))
    if culprit is None:
        where = f"{config_name}: " if config_name else ""
        return f"{where}{_flat(error)}"
    key = _key_of(culprit)
    if not key:
        return _unreadable(culprit)
    value = culprit.partition("=")[2]
    if "Ambiguous value" in text or "requires --multirun" in text:
        return f"{culprit}: several values are a sweep: add -m; a list is written {key}=[{value}]"
    if "Could not append" in text:
        return f"{culprit}: {key} exists already; write {key}={value}"
    if "does not exist" in text and "config group" in text:
        group, _, package = key.partition("@")
        return f"{culprit}: no such group{did_you_mean(group, loader.list_groups('')) or f' (@{package})'}"
    if "Could not override" in text:
        return _cannot_override(culprit, key, value, base, loader, error)
    if "Could not delete" in text:
        return f"{culprit}: no such key or choice{_close_key(key, base())}"
    if "force-add of config groups" in text or "Multiple values for" in text:
        return f"{culprit}: {key} is chosen already; write {key}={value}"
    if "must be a string" in text:
        return f"{culprit}: expected the name of an option of {key}: {available(_options(loader, key.split('@')[0]))}"
    return f"{culprit}: {_flat(error)}"


def _yaml_problem(error: Exception) -> str | None:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return None
    return f"{mark.name}:{mark.line + 1}: not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"


def _unreadable(override: str) -> str:
    if not override.strip("+~").partition("=")[0].strip():
        return f"{override!r}: names no key; write key=value"
    if "=" not in override and not override.startswith("~"):
        return f"{override}: not an override; write key=value (a stage comes first, flags begin with -)"
    return f"{override}: cannot be read as key=value; quote special characters, e.g. 'key=\"a,b (c)\"'"


def _no_option(error: Any, culprit: str | None, loader: Any) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    options = _options(loader, group) if group else []
    above = _key_of(culprit).split("@")[0] if culprit is not None else ""
    if above and group.startswith(f"{above}/"):
        # an option in a folder of its group: experiment=paper/NAME
        folder = group.removeprefix(f"{above}/")
        inside = [f"{folder}/{option}" for option in options]
        name, group, options = f"{folder}/{name}", above, inside or _nested(loader, above)
    if culprit is None:
        place = re.match(r"In '([^']+)'", str(error))
        where = f"{place[1]}.yaml: " if place else ""
        return f"{where}{missing}: no such config{did_you_mean(name, options)}"
    typed = _key_of(culprit) if _key_of(culprit).split("@")[0] == group else culprit
    shown = f"{typed}={name}" if typed != culprit else f"{culprit}: {missing}"
    listed = f"; available: {available(options)}" if options else ""
    return f"{shown}: no such option{did_you_mean(name, options)}{listed}"


def _keys(base: DictConfig | None) -> list[str]:
    return [] if base is None else [key for key, *_ in walk(base) if not key.startswith("hydra.")]


def _close_key(key: str, base: DictConfig | None) -> str:
    keys = _keys(base)
    above, _, leaf = key.rpartition(".")
    siblings = [known.rpartition(".")[2] for known in keys if known.rpartition(".")[0] == above]
    prefix = f"{above}." if above else ""
    return did_you_mean(leaf, siblings, prefix=prefix) or did_you_mean(key, [*keys, *_choices(base)])


def _cannot_override(culprit: str, key: str, value: str, base: Base, loader: Any, error: Exception) -> str:
    group = key.split("@")[0]
    if _options(loader, group):
        places = [choice for choice in _choices(base()) if choice.split("@")[0] == group]
        if places:
            return f"{culprit}: say which: {' or '.join(f'{place}={value}' for place in places)}"
        if _is_addition(loader, group, value):
            return f"{culprit}: add it with +{culprit}"
        if value.startswith("{"):
            return f"{culprit}: expected the name of an option of {key}: {available(_options(loader, group))}"
        return f"{culprit}: this stage has no choice of {group}; it has {available(_choices(base()))}"
    if value.startswith("{") and isinstance(OmegaConf.select(base() or OmegaConf.create(), key), DictConfig):
        return _new_within(culprit, key, error, base)
    above = key.rpartition(".")[0]
    siblings = [known for known in _keys(base()) if known.rpartition(".")[0] == above]
    close = _close_key(key, base())
    listed = "" if close or not siblings else f"; there are {available(siblings)}"
    if not siblings and above:
        return f"{key}: no such key{close}"
    return f"{key}: no such key{close}{listed} (add a new key with +{key}={value})"


def _new_within(culprit: str, key: str, error: Exception, base: Base) -> str:
    """A mapping is laid over the one that is there, and holds a key that one has not."""
    missing = str(getattr(error.__cause__, "full_key", None) or "")
    named = missing if missing.startswith(f"{key}.") else f"{key}.KEY"
    above, _, leaf = named.rpartition(".")
    siblings = [known.rpartition(".")[2] for known in _keys(base()) if known.rpartition(".")[0] == above]
    close = did_you_mean(leaf, siblings, prefix=f"{above}.")
    return f"{culprit}: {above} has no key {leaf}{close} (add a new key with +{named}={_value_at(culprit, key, named)})"


def _value_at(culprit: str, key: str, named: str) -> str:
    """What a mapping that was typed says of one of its keys; `...` where that is no single value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found: Any = OverridesParser.create().parse_override(culprit).value()
    for piece in named.removeprefix(f"{key}.").split("."):
        found = found.get(piece) if isinstance(found, dict) else None
    if found is None or isinstance(found, dict | list):
        return "..."
    return str(found).lower() if isinstance(found, bool) else str(found)


def _flat(error: Exception) -> str:
    """A Hydra error and its cause in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    parts = lines[: 2 if lines and lines[0].endswith(":") else 1]
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        parts.append(first_line(cause))
    text = ": ".join(dict.fromkeys(part.rstrip(":") for part in parts)) or type(error).__name__
    return re.sub(r"\s+", " ", text)
