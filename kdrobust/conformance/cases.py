"""Vector files: what official code returned for explicit logits. Read, checked, turned into tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrobust.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of a method's own code.

    Attributes:
        method: the name in the file.
        source: whose code it was.
        hyperparameters: as that code names them.
        inputs: name to logits, [B, K] float64.
        labels: [B] int64, or None.
        loss: the value it returned; None for cases of another kind (trajectories, update rules).
        gradients: input name to ∂loss/∂input; None where the official code lets no gradient through.
    """

    method: str
    source: str
    hyperparameters: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    labels: Tensor | None
    loss: float | None
    gradients: Mapping[str, Tensor | None]


def _tensor(values: Any, where: str) -> Tensor:
    try:
        tensor = torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not an array of numbers ({error})") from None
    if not bool(tensor.isfinite().all()):
        raise DataError(f"{where}: holds NaN or infinite numbers")
    return tensor


def _read_case(entry: Any, where: str) -> Case:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("method"), str):
        raise DataError(f"{where}: expected a mapping with a key 'method'")
    inputs = {name: _tensor(values, f"{where}.inputs.{name}") for name, values in entry.get("inputs", {}).items()}
    given = entry.get("gradients", {})
    if "gradient" in entry:
        given = {"student": entry["gradient"]}
    gradients: dict[str, Tensor | None] = {}
    for name, values in given.items():
        if name not in inputs:
            raise DataError(f"{where}.gradients.{name}: there is no input of that name")
        gradients[name] = None if values is None else _tensor(values, f"{where}.gradients.{name}")
    labels = entry.get("labels")
    return Case(
        method=entry["method"],
        source=str(entry.get("source", "")),
        hyperparameters=entry.get("hyperparameters") or {},
        inputs=inputs,
        labels=None if labels is None else torch.tensor(labels, dtype=torch.int64),
        loss=entry.get("loss"),
        gradients=gradients,
    )


def read_cases(path: str | Path) -> list[Case]:
    """All cases of a vector file.

    Args:
        path: a JSON list of cases; the keys are those of `tests/conformance/vectors/README.md`.

    Raises:
        DataError: the file is missing, is not JSON, or a case is malformed; one line with file and case.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such vector file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a non-empty list of cases, got {type(entries).__name__}")
    return [_read_case(entry, f"{path}[{number}]") for number, entry in enumerate(entries)]
