"""Stored teacher outputs: written with a manifest, refused where checkpoint or data no longer match it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from kdrobust.config import read_resolved, to_plain
from kdrobust.data import DataModule
from kdrobust.errors import CheckpointError, KdrobustError
from kdrobust.tracking import write_bytes, write_json

FILE = "outputs.safetensors"
MANIFEST = "outputs.json"
SPLITS = ("train", "validation", "test")


def write_stored(
    folder: Path, logits: Mapping[str, Tensor], *, data: DataModule, checkpoint: Mapping[str, str]
) -> None:
    """Write logits by split, and the manifest that says whose they are.

    Args:
        folder: where.
        logits: split to [N, K].
        data: what they were computed on.
        checkpoint: `path` and `sha256` of the teacher.
    """
    payload = save({f"{split}.clean": tensor.contiguous() for split, tensor in logits.items()})
    write_bytes(folder / FILE, payload)
    manifest = {
        "schema": 1,
        "checkpoint": dict(checkpoint),
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "shapes": {split: list(tensor.shape) for split, tensor in logits.items()},
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    write_json(folder / MANIFEST, manifest)


def read_stored(folder: Path) -> dict[str, Any]:
    """The manifest of stored outputs, its file checked.

    Raises:
        CheckpointError: no manifest, a damaged one, or a file that is not the one it describes.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    except OSError as error:
        missing = Path(error.filename or folder).name
        raise CheckpointError(f"{folder}: no stored outputs here ({missing}); run `kdrobust outputs`") from None
    except ValueError:
        raise CheckpointError(f"{folder / MANIFEST}: damaged; run `kdrobust outputs` again") from None
    if not isinstance(manifest, dict) or manifest.get("sha256") != digest:
        raise CheckpointError(
            f"{folder / FILE}: truncated or changed since it was written; run `kdrobust outputs` again"
        )
    told = [manifest.get(name) for name in ("data", "checkpoint")]
    wanted = [{"name", "fingerprint"}, {"path", "sha256"}]
    if not all(isinstance(node, dict) and keys <= set(node) for node, keys in zip(told, wanted, strict=True)):
        raise CheckpointError(
            f"{folder / MANIFEST}: does not say of which data and checkpoint; run `kdrobust outputs` again"
        )
    return manifest


#: Settings of the data that leave the stored samples as they are.
_ELSEWHERE = ("root", "seed", "batch_size", "eval_batch_size", "augmentation", "loader", "num_workers")


def _leaves(node: Any, key: str) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {name: value for part, child in node.items() for name, value in _leaves(child, f"{key}.{part}").items()}
    return {key: node}


def _differences(folder: Path, own: Mapping[str, Any]) -> str:
    """Which settings of the data differ from those the outputs were stored with, as text; empty where none is known."""
    try:
        stored = to_plain(read_resolved(folder).data)
    except (KdrobustError, OmegaConfBaseException):
        return ""
    then, now = (
        _leaves({key: value for key, value in node.items() if key not in _ELSEWHERE}, "data") for node in (stored, own)
    )
    keys = [key for key in dict.fromkeys([*then, *now]) if then.get(key) != now.get(key)]
    return "; ".join(f"{key} is {now.get(key)}, was {then.get(key)}" for key in keys)


def attach_stored(
    folder: Path,
    manifest: Mapping[str, Any],
    data: DataModule,
    name: str = "teacher",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Hand stored logits to the data module, so that batches carry them.

    Args:
        folder: where they lie.
        manifest: what `read_stored` returned.
        data: the student's.
        name: the teacher's.
        settings: the config node that `data` was made by, to say what of it differs.

    Raises:
        CheckpointError: they were computed on other data, or by a teacher whose checkpoint has changed since.
    """
    if manifest["data"]["fingerprint"] != data.fingerprint:
        differing = _differences(folder, settings or {}) if settings else ""
        which = differing or f"they are of {manifest['data']['name']}, whose samples or split were others"
        raise CheckpointError(
            f"{folder}: these outputs belong to other data: {which}; run `kdrobust outputs` on the data you train on"
        )
    teacher = Path(manifest["checkpoint"]["path"])
    if teacher.exists():
        from kdrobust.models import file_hash

        if file_hash(teacher) != manifest["checkpoint"]["sha256"]:
            raise CheckpointError(f"{folder}: {teacher} has changed since; run `kdrobust outputs` again")
    try:
        tensors = load_file(folder / FILE)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / FILE}: damaged ({error}); run `kdrobust outputs` again") from None
    data.attach_outputs({split: {f"{name}.clean": tensors[f"{split}.clean"]} for split in SPLITS})
