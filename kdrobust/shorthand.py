"""What may be typed shorter: lists where a stage takes several values at once, and a search's number of trials."""

from __future__ import annotations

from collections.abc import Sequence

from kdrobust.config.numbers import as_number

_SWEEP = ("-m", "--multirun")


def _values(argument: str) -> list[str]:
    value = argument.partition("=")[2]
    if any(mark in value for mark in "[](){}'\""):
        return []
    return [part for part in value.split(",") if part]


def _by_size(values: Sequence[str]) -> list[str]:
    try:
        return sorted(values, key=as_number)
    except ValueError:
        # what is no number is refused with its key later
        return list(values)


def _search(argument: str) -> list[str]:
    if argument.startswith("n_trials="):
        return [f"search.{argument}"]
    key, _, value = argument.partition("=")
    if key.lstrip("+") == "search.space" and value.startswith("{"):
        return ["~search.space", f"+search.space={value}"]
    return [argument]


def spell_out(stage: str, arguments: Sequence[str]) -> list[str]:
    """A stage's arguments with several checkpoints and radii written as the lists they are.

    With `-m` the commas are a sweep's, and stay; beside `search=NAME`, `n_trials=N` is `search.n_trials=N`, and
    `+search.space={...}` stands in the place of the option's space, with which Hydra would merge it.

    Args:
        stage: name of a primary config.
        arguments: overrides and flags.
    """
    if any(argument.startswith("search=") for argument in arguments):
        return [part for text in arguments for part in _search(text)]
    if stage != "evaluate" or any(flag in arguments for flag in _SWEEP):
        return list(arguments)
    spelled = []
    for argument in arguments:
        key, values = argument.partition("=")[0], _values(argument)
        if key == "checkpoint" and len(values) > 1:
            spelled.append(f"checkpoint=[{','.join(values)}]")
        elif key == "threat.eps" and len(values) > 1:
            radii = _by_size(values)
            spelled += [f"radii=[{','.join(radii)}]", f"threat.eps={radii[-1]}"]
        else:
            spelled.append(argument)
    return spelled
