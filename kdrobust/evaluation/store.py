"""Finished attacks on disk: an evaluation that was killed goes on with the next one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdrobust.evaluation.outcome import AttackOutcome
from kdrobust.tracking.atomic import write_bytes

_ARRAYS = ("correct", "goal_start", "goal_end", "distance", "outside", "disputed")
_META = "meta"
_EXTRA = "extra/"


class AttackStore:
    """A folder with one file for each finished attack.

    A file counts only for the very same question: the same model, samples, seed and batch size (`context`) and the same
    attack settings. Anything else in the folder is left alone and not read.

    Args:
        folder: made when the first attack is kept.
        context: what beside an attack's own settings decides its outcome, as plain values: hashes of the model and of
            the samples' indices, seed, batch size, number and place of the processes.
    """

    def __init__(self, folder: str | Path, context: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._context = dict(context)

    def _key(self, name: str, spec: Mapping[str, Any]) -> str:
        asked = {"name": name, "spec": dict(spec), "context": self._context}
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()

    def path(self, name: str, spec: Mapping[str, Any]) -> Path:
        """Where an attack's outcome is kept."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        return self.folder / f"{readable}-{self._key(name, spec)[:12]}.npz"

    def partial(self, name: str, spec: Mapping[str, Any]) -> PartialFile:
        """Where an attack of several parts keeps how far it has come; gone when the whole is saved."""
        return PartialFile(self.path(name, spec).with_suffix(".partial.npz"), self._key(name, spec))

    def save(self, name: str, outcome: AttackOutcome) -> None:
        """Keep a finished attack, in one step.

        Raises:
            RunFolderError: the file cannot be written.
        """
        meta = {
            "key": self._key(name, outcome.spec),
            "spec": outcome.spec,
            "seconds": outcome.seconds,
            "notes": list(outcome.notes),
        }
        arrays: dict[str, Any] = {key: getattr(outcome, key) for key in _ARRAYS}
        arrays |= {f"{_EXTRA}{key}": values for key, values in outcome.extra.items()}
        _write(self.path(name, outcome.spec), meta, arrays)
        self.partial(name, outcome.spec).path.unlink(missing_ok=True)

    def load(self, name: str, spec: Mapping[str, Any]) -> AttackOutcome | None:
        """A kept attack; None where there is none, or its file is damaged (it is then made again)."""
        found = _read(self.path(name, spec), self._key(name, spec))
        if found is None or not set(_ARRAYS) <= set(found[1]):
            return None
        meta, arrays = found
        extra = {key.removeprefix(_EXTRA): values for key, values in arrays.items() if key.startswith(_EXTRA)}
        arrays = {key: arrays[key] for key in _ARRAYS}
        return AttackOutcome(
            spec=dict(spec), seconds=float(meta["seconds"]), notes=tuple(meta["notes"]), extra=extra, **arrays
        )


class PartialFile:
    """One file that holds how far an attack has come; see `kdrobust.attacks.partial`.

    Args:
        path: the file.
        key: of the question it belongs to; a file of another one counts as none.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key

    def load(self) -> dict[str, Tensor] | None:
        """What was saved last; None where there is nothing, or it is damaged."""
        found = _read(self.path, self._key)
        return None if found is None else {key: torch.from_numpy(values) for key, values in found[1].items()}

    def save(self, values: Mapping[str, Tensor]) -> None:
        """Keep this, in one step.

        Raises:
            RunFolderError: the file cannot be written.
        """
        _write(self.path, {"key": self._key}, {key: value.detach().cpu().numpy() for key, value in values.items()})


def _write(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{_META: np.array(json.dumps(meta))}, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def _read(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Meta and arrays of a file that belongs to a question; None where it is not there, damaged, or another's."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
            meta = json.loads(str(found[_META]))
            if meta["key"] != key:
                return None
            return meta, {name: found[name] for name in found.files if name != _META}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
