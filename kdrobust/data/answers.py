"""A teacher's answers on augmented images, kept on disk for the jobs that see the very same images."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kdrobust.errors import RunFolderError
from kdrobust.tracking import write_bytes, write_json

log = logging.getLogger("kdrobust")
KEY = "key.json"


@dataclass(frozen=True)
class Answers:
    """One epoch's logits on one process.

    Attributes:
        indices: [M] int64, ascending: each sample's place in the training split.
        logits: [M, K], in the same order.
    """

    indices: Tensor
    logits: Tensor

    @classmethod
    def collected(cls, indices: Sequence[Tensor], logits: Sequence[Tensor]) -> Answers:
        """From the batches of an epoch, on the CPU."""
        places, order = torch.cat(list(indices)).cpu().sort()
        return cls(places, torch.cat(list(logits)).detach().cpu()[order])

    def to(self, device: torch.device) -> Answers:
        """The same on another device."""
        return Answers(self.indices.to(device), self.logits.to(device))

    def of(self, indices: Tensor) -> Tensor:
        """The logits of samples that are among these, [B, K]; never waits for the device."""
        return self.logits[torch.searchsorted(self.indices, indices)]


def _digest(answers: Answers) -> str:
    state = hashlib.sha256()
    for tensor in (answers.indices, answers.logits):
        state.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


class AnswerStore:
    """The answers of one teacher to one sequence of augmented batches, a file an epoch and process.

    What addresses the images and what decides the last bit of an answer are the key, so that answers read are the
    answers that would have been computed. Files are published whole; a damaged one counts as absent.

    Args:
        root: where all stores lie; the limit holds for all of them together.
        key: plain values: teacher, data, seed, augmentation, batches, precision, device ...
        limit: bytes that the files below `root` may take; what would exceed it is not kept.
    """

    def __init__(self, root: Path, key: Mapping[str, Any], *, limit: float) -> None:
        self.root = root
        self.key = dict(key)
        self.limit = limit
        canonical = json.dumps(self.key, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(canonical.encode()).hexdigest()[:16]
        self._full = False

    def path(self, epoch: int, rank: int = 0) -> Path:
        """The file of an epoch and a process."""
        return self.folder / f"epoch_{epoch:05d}_rank_{rank}.safetensors"

    def read(self, epoch: int, rank: int = 0) -> Answers | None:
        """What some job has kept, or None."""
        path = self.path(epoch, rank)
        try:
            with safe_open(path, framework="pt") as file:
                digest = (file.metadata() or {}).get("sha256")
                answers = Answers(file.get_tensor("indices"), file.get_tensor("logits"))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("%s: damaged (%s); the teacher is asked again", path, str(error).splitlines()[0])
            return None
        if digest != _digest(answers):
            log.warning("%s: changed since it was written; the teacher is asked again", path)
            return None
        return answers

    def write(self, answers: Answers, epoch: int, rank: int = 0) -> None:
        """Keep an epoch's answers, unless there is no room for them."""
        path = self.path(epoch, rank)
        tensors = {"indices": answers.indices.contiguous(), "logits": answers.logits.contiguous()}
        payload = save(tensors, metadata={"sha256": _digest(answers)})
        if self._full or self._size() + len(payload) > self.limit:
            if not self._full:
                log.info("%s: full (teacher.shared_views_gb); further epochs are not kept", self.root)
            self._full = True
            return
        try:
            if not (self.folder / KEY).exists():
                write_json(self.folder / KEY, self.key)
            write_bytes(path, payload)
        except RunFolderError as error:
            # what is only there to save time must not end a training
            self._full = True
            log.warning("%s; the teacher's answers are not kept", error)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.root.glob("*/*.safetensors"))
