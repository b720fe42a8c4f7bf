"""What `--help` prints, read from the YAML files themselves. No torch, no Hydra."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdrobust import listing
from kdrobust.config.paths import search_folders
from kdrobust.errors import UsageError
from kdrobust.headers import header_lines

_FLAGS = """Flags (Hydra's)
  -m, --multirun            sweep: every combination of comma-separated values is a job
  --cfg job [--resolve]     print the composed config and stop;  -p KEY: only that part
  --config-dir FOLDER       a further folder of your own configs (./conf is found by itself)
  --info defaults-tree      which file says what;  --hydra-help: the rest"""

_OVERVIEW = """kdrobust: knowledge distillation in adversarial learning

Usage
  kdrobust STAGE [key=value ...]    run a stage; every key of its config can be overridden
  kdrobust STAGE --help             its keys, choices and examples
  kdrobust list [GROUP]             what can be chosen: methods, losses, attacks, models, data ...
  kdrobust search wandb NAME        a search of conf/search as a W&B sweep file
  kdrobust doctor                   versions, devices, data found, what is missing and how to get it
  kdrobust predict MODEL input=...  names and probabilities of images, by a checkpoint or an exported model
  kdrobust detect checkpoint=...    scores of images by a detector of attacks, flagged at a false-positive rate
  kdrobust report FOLDER ...        one HTML page of every run below; --watch serves it here while runs go on
  kdrobust reproduce RESULT.JSON    run a finished run again and compare figures and weights, bit by bit
  kdrobust benchmark suite=NAME     every method on equal terms, in pieces; plan: what it would do and how long
  kdrobust frontier FOLDER ...      clean and robust accuracy against size: a plot and a CSV of every run below
  kdrobust sweep status FOLDER      how far a sweep is, its best settings;  resume FOLDER: go on with it

Stages
{stages}

Examples
  kdrobust pipeline
  kdrobust teacher data=fashion_mnist model@teacher=wide_cnn method=trades threat.eps=0.1
  kdrobust distill method=rslad model@student=small_cnn method.alpha=0.3 method.temperature=4 threat.eps=8/255
  kdrobust distill -m method.alpha=0.1,0.5,0.9 threat.eps=4/255,8/255
  kdrobust distill -m search=alpha_temperature_pareto n_trials=30

Runs land in ./outputs; your own options in ./conf/GROUP/NAME.yaml are found beside kdrobust's."""


@dataclass
class _Primary:
    """What a primary config and its bases say, later files winning.

    Attributes:
        choices: group, with its place (`model@student`), to the default option.
        keys: dotted key to its value as written, and its comment.
    """

    choices: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)


def overview() -> str:
    """The text of `kdrobust --help`."""
    return _OVERVIEW.format(stages=listing.table(listing.stages()))


def _find(name: str) -> Path | None:
    for folder in search_folders():
        for suffix in (".yaml", ".yml"):
            path = folder.path / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


_LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.@-]+):(?: +(?P<value>[^#]*?))?(?: +# *(?P<comment>.*))? *")


def _keys(text: str) -> dict[str, tuple[str, str]]:
    """Dotted key to (value as written, comment) of a YAML file, without its defaults list and Hydra's settings."""
    found: dict[str, tuple[str, str]] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        path = [*(key for _, key in above), match["key"]]
        if path[0] in ("defaults", "hydra"):
            above = [(indent, match["key"])] if indent == 0 else above
        elif match["value"]:
            found[".".join(path)] = (match["value"].strip(), match["comment"] or "")
        else:
            above.append((indent, match["key"]))
    return found


def _read(name: str, into: _Primary, seen: set[str]) -> None:
    import yaml

    path = _find(name)
    if path is None or name in seen:
        return
    seen.add(name)
    text = path.read_text(encoding="utf-8")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML") from None
    for entry in (content or {}).get("defaults") or []:
        if isinstance(entry, str):
            if entry != "_self_":
                _read(entry, into, seen)
            continue
        for key, option in entry.items():
            words = str(key).split()
            if words[0] != "optional":
                into.choices[words[-1].lstrip("/")] = option
    for key, (value, comment) in _keys(text).items():
        into.keys[key] = (value, comment or into.keys.get(key, ("", ""))[1])


#: So many options are named; of more, their number.
_MOST = 40
_LINE_LENGTH = 120
#: Groups whose options say themselves where they go, over any method.
ADDITIONS = ("wrap", "features", "average")


def stage_help(name: str) -> str:
    """The text of `kdrobust STAGE --help`.

    Args:
        name: of an existing primary config.
    """
    primary = _Primary()
    _read(name, primary, set())
    path = _find(name)
    about = header_lines(path) if path is not None else []
    parts = [f"kdrobust {name} [key=value ...]", "", *(f"  {line}" for line in about)]
    if primary.choices:
        parts += ["", "Choices (GROUP=OPTION)"]
        width = max(map(len, primary.choices))
        for place, default in primary.choices.items():
            shown = "none" if default is None else default
            parts += _choices(f"{place}={shown}", width + 14, place.split("@")[0])
    if "method" in primary.choices:
        parts += ["", "Additions (+GROUP=OPTION, or several: +GROUP=[ONE,TWO])"]
        for group in ADDITIONS:
            parts += _choices(f"+{group}=", width + 14, group)
    if primary.keys:
        parts += ["", "Keys (KEY=VALUE) and their defaults"]
        shown = {f"{key}={value}": comment for key, (value, comment) in primary.keys.items()}
        width = min(40, max(map(len, shown)))
        parts += [f"  {line:<{width}}  {comment}".rstrip() for line, comment in shown.items()]
    parts += ["", f"An option's own keys: kdrobust {name} --cfg job -p GROUP", "", _FLAGS]
    return "\n".join(parts)


def _choices(left: str, width: int, group: str) -> list[str]:
    """A group's options beside its name, in lines; of very many, how many and the command that lists them."""
    names = [option.name for option in listing.options(group)]
    told = f"{len(names)} of them: kdrobust list {group}" if len(names) > _MOST else ", ".join(names)
    # a text without a space is not broken: no option's name is cut in two
    lines = textwrap.wrap(told, _LINE_LENGTH - width - 4, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"  {left if not at else '':<{width}}  {line}".rstrip() for at, line in enumerate(lines)]
