"""What is wrong with a run's files: with two runs that should be one, with figures that cannot be."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kdrobust.reproduce import compare

#: Of the resume point: what training goes on from.
_STATE = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
_SHARE = re.compile(r"(^|[./_])(accuracy|robust_accuracy|agreement|robust_agreement|worst_case)$")
#: A robust accuracy is measured on the samples of the clean one: more of them cannot stand, but for chance in attacks
#: that end at another point than the clean input.
_TOLERANCE = 0.15
#: Files of weights, where a run has them.
_WEIGHTS = ("best.ckpt", "averaged.ckpt")


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def equal(one: Any, other: Any) -> bool:
    """Whether two nested values agree, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def differences(whole: Path, other: Path) -> list[str]:
    """What one run's folder has otherwise than the uninterrupted one's."""
    found = []
    if (whole / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    for name in (*_WEIGHTS, "last.ckpt"):
        if not (whole / name).exists() and not (other / name).exists():
            continue
        one, two = (torch.load(folder / name, weights_only=True, map_location="cpu") for folder in (whole, other))
        keys = _STATE if name == "last.ckpt" else ("state_dict", "epoch", "global_step")
        found += [f"{name}: {key}" for key in keys if not equal(one.get(key), two.get(key))]
    rows = compare(_moved(result(whole), whole), _moved(result(other), other))
    return [*found, *(f"result.json: {key}: {one} against {two}" for key, one, two in rows if one != two)]


def _moved(node: Any, folder: Path) -> Any:
    """A result without the name of its run's folder."""
    if isinstance(node, dict):
        return {key: _moved(value, folder) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, folder) for value in node]
    return node.replace(f"{folder.parent.name}/{folder.name}", "RUN") if isinstance(node, str) else node


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for place, child in enumerate(node):
            yield from _leaves(child, f"{key}[{place}]")
    elif isinstance(node, float):
        yield key, node


def implausible(folder: Path, epochs: int | None = None) -> list[str]:
    """Figures of a finished run that cannot be.

    Args:
        folder: of the run.
        epochs: how many rows `metrics.csv` has to have; None: there is no such file.
    """
    found, record = [], result(folder)
    for key, value in _leaves(record):
        if not math.isfinite(value):
            found.append(f"result.json: {key} is {value}")
        elif _SHARE.search(key) and not 0.0 <= value <= 1.0:
            found.append(f"result.json: {key} is {value}, no share")
    if epochs is None:
        return found
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if [row["epoch"] for row in rows] != [str(at) for at in range(epochs)]:
        found.append(f"metrics.csv: epochs {[row['epoch'] for row in rows]}, expected {epochs}")
    for row in rows:
        figures = {name: float(text) for name, text in row.items() if text}
        found += [f"metrics.csv: {name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
        clean, robust = figures.get("val/accuracy"), figures.get("val/robust_accuracy")
        if clean is not None and robust is not None and robust > clean + _TOLERANCE:
            found.append(f"metrics.csv: val/robust_accuracy {robust} above val/accuracy {clean}")
    return found
