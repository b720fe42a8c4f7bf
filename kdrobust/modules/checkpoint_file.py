"""How Lightning's checkpoints become files: whole or not there, and the same bytes for the same content."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from kdrobust.tracking import write_bytes
from kdrobust.tracking.secrets import redactor


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint in one step, synchronised to the disk; reading is Lightning's.

    Lightning's own writing leaves it to the system when the bytes reach the disk, so that a power failure can leave a
    file of the right name and no content.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: what Lightning has collected.
            path: the file.
            storage_options: `{"previous": PATH}`: where the file that was there before is kept; None: nowhere.

        Raises:
            RunFolderError: it cannot be written, e.g. because the disk is full; an older file of this name stays.
        """
        write_bytes(path, checkpoint_content(checkpoint), previous=(storage_options or {}).get("previous"))


def checkpoint_content(checkpoint: dict[str, Any]) -> memoryview:
    """A checkpoint as the bytes of its file; equal checkpoints give equal bytes."""
    buffer = io.BytesIO()
    torch.save(_canonical(checkpoint, redactor()), buffer)
    return buffer.getbuffer()


def _canonical(value: Any, masked: Callable[[str], str]) -> Any:
    """The same content with one object a text: pickle writes a text once and then refers to it by identity.

    What a resumed run has read from a file holds its own copies of texts that are shared otherwise. Secrets are masked,
    as in every file of a run.
    """
    if isinstance(value, str):
        return sys.intern(masked(value))
    if isinstance(value, dict):
        return {_canonical(key, masked): _canonical(item, masked) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_canonical(item, masked) for item in value)
    return value
