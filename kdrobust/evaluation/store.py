"""Finished attacks on disk: an evaluation that was killed goes on with the next one."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{_META: np.array(json.dumps(meta))}, **arrays)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path(name, outcome.spec), buffer.getvalue())

    def load(self, name: str, spec: Mapping[str, Any]) -> AttackOutcome | None:
        """A kept attack; None where there is none, or its file is damaged (it is then made again)."""
        try:
            content = io.BytesIO(self.path(name, spec).read_bytes())
            with np.load(content, allow_pickle=False) as found:
                meta = json.loads(str(found[_META]))
                if meta["key"] != self._key(name, spec):
                    return None
                arrays = {key: found[key] for key in _ARRAYS}
                extra = {key.removeprefix(_EXTRA): found[key] for key in found.files if key.startswith(_EXTRA)}
        except (OSError, ValueError, KeyError, EOFError):
            return None
        except Exception as error:  # zipfile has errors of its own for a truncated archive
            if "zip" not in type(error).__name__.lower():
                raise
            return None
        return AttackOutcome(
            spec=dict(spec), seconds=float(meta["seconds"]), notes=tuple(meta["notes"]), extra=extra, **arrays
        )
