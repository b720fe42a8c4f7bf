"""What the panels are computed from: comparable groups, undominated runs, swept keys, configs without repetition."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SECRET = re.compile(r"(api_?key|token|secret|password)$", re.IGNORECASE)
_OVERRIDE = re.compile(r"[+~]{0,2}(?P<key>[^=]+)=(?P<value>.*)", re.DOTALL)
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points no other point dominates.

    A point dominates another if it is at least as good in both figures and better in one. Equal points do not dominate
    each other: both stay.

    Args:
        points: (clean accuracy, robust accuracy), shares in [0, 1].

    Returns:
        One verdict a point, in their order.
    """
    verdicts = [False] * len(points)
    best, kept = float("-inf"), (float("nan"), float("nan"))
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1]))
    for index in order:
        clean, robust = points[index]
        # sorted by clean accuracy: only a point before can dominate, and the best robust one of them decides
        if robust > best or (robust == best and (clean, robust) == kept):
            verdicts[index] = True
            best, kept = robust, (clean, robust)
    return verdicts


def mark_undominated(rows: Sequence[dict[str, Any]]) -> None:
    """Set `undominated` of every row that has both figures, among the rows of its `setting`; teachers are left out."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row["undominated"] = False
        if row["clean"] and row["robust"] and not row["teacher"]:
            settings.setdefault(row["setting"], []).append(row)
    for group in settings.values():
        verdicts = pareto_front([(row["clean"]["value"], row["robust"]["value"]) for row in group])
        for row, verdict in zip(group, verdicts, strict=True):
            row["undominated"] = verdict


def override(text: str) -> tuple[str, str] | None:
    """Key and value of one of Hydra's overrides; None for a deletion."""
    match = _OVERRIDE.fullmatch(text)
    return (match["key"], match["value"]) if match and not text.startswith("~") else None


def job_command(stage: str, overrides: Sequence[str]) -> str:
    """The command of one job of a sweep alone, quoted for a POSIX shell."""
    return shlex.join(["kdrobust", stage, *overrides])


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and leaves of a config; lists of plain values are leaves, what looks like a secret is masked."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, Mapping | list) for item in tree):
        for index, item in enumerate(tree):
            yield from flatten(item, f"{prefix}[{index}]")
    elif prefix:
        yield prefix, "•••" if _SECRET.search(prefix) and tree is not None else plain(tree)


def plain(value: Any) -> Any:
    """A config's leaf as JSON has it; anything else as text."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return {} if value == {} else str(value)


def swept_keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Keys that training runs' overrides set to two values or more.

    Fills each row's `settings` with their values as text, and `own` with those of them that its own overrides set.
    Runs of different stages are not compared: a teacher that trains longer than its students is no sweep. A row whose
    own overrides do not name a key has the value of its config, or of Hydra's choice.
    """
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row["own"] = []
        if not row["teacher"] and row["trained_by"] in ("teacher", "distill"):
            stages.setdefault(row["trained_by"], []).append(row)
    swept: dict[str, None] = {}
    for group in stages.values():
        for key in dict.fromkeys(key for row in group for key in row["overrides"]):
            values = [_value(row, key) for row in group]
            if key.startswith(("run.", "hydra")) or len({value for value in values if value is not None}) < 2:
                continue
            swept[key] = None
            for row, value in zip(group, values, strict=True):
                if value is not None:
                    row["settings"][key] = value
                if key in row["overrides"]:
                    row["own"].append(key)
    return list(swept)


def _value(row: Mapping[str, Any], key: str) -> str | None:
    for place in ("overrides", "trained_config", "config", "choices"):
        found = row.get(place, {}).get(key)
        if found is not None:
            return str(found)
    return None


def share_configs(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Take keys of equal value in every config out of the rows and return them: said once, not a thousand times."""
    configs = [row["config"] for row in rows if row["config"]]
    if not configs:
        return {}
    first = configs[0]
    common = {
        key: value
        for key, value in first.items()
        if all(key in config and _same(config[key], value) for config in configs)
    }
    for row in rows:
        row["configured"] = bool(row["config"])
        row["config"] = {key: value for key, value in row["config"].items() if key not in common}
    return common


def _same(first: Any, second: Any) -> bool:
    # 1 == True == 1.0 in Python, not in a config
    return type(first) is type(second) and first == second


def number_text(value: float) -> str:
    """A radius as text; whole multiples of 1/255 as such."""
    levels = value * 255
    whole = value and abs(levels - round(levels)) < 1e-6 and round(levels) < 255
    return f"{round(levels)}/255" if whole else f"{value:.4g}"


def threat_text(threat: Mapping[str, Any]) -> str:
    """A threat model as text, e.g. `ℓ∞, ε = 8/255`; empty where there is none."""
    if not threat:
        return ""
    return f"{_NORMS.get(threat['norm'], threat['norm'])}, ε = {number_text(float(threat['eps']))}"
