"""Vector files: what official code returned for explicit tensors. Read, checked, turned into cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrobust.errors import DataError

#: What ends the name of an entry that records a library's fault: ours must differ from it.
VARIANT = "_variant"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of a method's own code.

    Attributes:
        method: the name in the file.
        source: whose code it was.
        hyperparameters: as that code names them.
        inputs: name to logits or features, float64.
        labels: [B] int64, or None.
        expected: what the code returned, by name: `loss`, the gradient of each input, or a special case's own numbers.
        extra: the entry as it stands in the file, for cases of a special kind.
        name: what the file calls it, beyond the method.
    """

    method: str
    source: str
    hyperparameters: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    labels: Tensor | None
    expected: Mapping[str, Tensor]
    extra: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def unequal(self) -> bool:
        """Whether the entry is a documented fault that ours must not reproduce."""
        return self.method.endswith(VARIANT)


def as_tensor(values: Any, where: str) -> Tensor:
    """Numbers of a file in float64.

    Raises:
        DataError: no array of finite numbers.
    """
    try:
        tensor = torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not an array of numbers ({error})") from None
    if not bool(tensor.isfinite().all()):
        raise DataError(f"{where}: holds NaN or infinite numbers")
    return tensor


def _labels(values: Any, where: str) -> Tensor | None:
    if values is None:
        return None
    try:
        return torch.tensor(values, dtype=torch.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}.labels: not a list of class numbers ({error})") from None


def _source(value: Any) -> str:
    if isinstance(value, Mapping):
        return ": ".join(str(value[key]) for key in ("repo", "path", "symbol") if key in value)
    return str(value or "")


def _hyperparameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    given = entry.get("hyperparameters") or {}
    if not isinstance(given, Mapping):
        raise DataError(f"{where}.hyperparameters: expected a mapping")
    return given


def _read_case(entry: Any, where: str, sets: Mapping[str, Any]) -> Case:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("method"), str):
        raise DataError(f"{where}: expected a mapping with a key 'method'")
    given = entry.get("inputs", {})
    if isinstance(given, str):
        if given not in sets:
            raise DataError(f"{where}.inputs: the file has no input set {given!r}")
        given = sets[given]
    if not isinstance(given, Mapping):
        raise DataError(f"{where}.inputs: expected a mapping of names to arrays")
    inputs = {name: as_tensor(value, f"{where}.inputs.{name}") for name, value in given.items() if name != "labels"}
    expected: dict[str, Tensor] = {}
    if entry.get("loss") is not None:
        expected["loss"] = as_tensor(entry["loss"], f"{where}.loss")
    gradients = entry.get("gradients") or {}
    if not isinstance(gradients, Mapping):
        raise DataError(f"{where}.gradients: expected a mapping of inputs to arrays")
    gradients = dict(gradients)
    for key in ("gradient", "grad_student"):
        if key in entry:
            gradients["student"] = entry[key]
    for name, values in gradients.items():
        if name not in inputs:
            raise DataError(f"{where}.gradients.{name}: there is no input of that name")
        # null: the official code lets no gradient through
        zero = torch.zeros_like(inputs[name])
        expected[name] = zero if values is None else as_tensor(values, f"{where}.gradients.{name}")
    return Case(
        method=entry["method"],
        source=_source(entry.get("source")),
        hyperparameters=_hyperparameters(entry, where),
        inputs=inputs,
        labels=_labels(entry.get("labels", given.get("labels")), where),
        expected=expected,
        extra={**entry, "sets": sets},
        name=str(entry.get("id", "")),
    )


def read_cases(path: str | Path) -> list[Case]:
    """All cases of a vector file.

    Args:
        path: a JSON list of cases, or a mapping with `inputs` (named sets) and `entries`; the keys are those of
            `tests/conformance/vectors/README.md`.

    Raises:
        DataError: the file is missing, is not JSON, or a case is malformed; one line with file and case.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such vector file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None
    sets: Mapping[str, Any] = {}
    entries = content
    if isinstance(content, Mapping) and "entries" in content:
        entries, sets = content["entries"], content.get("inputs") or {}
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a non-empty list of cases, got {type(entries).__name__}")
    return [_read_case(entry, f"{path}[{number}]", sets) for number, entry in enumerate(entries)]
