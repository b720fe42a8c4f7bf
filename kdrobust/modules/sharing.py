"""The callback by which a sweep's jobs share their teachers' answers on augmented images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from kdrobust.attacks.kernels import has_fast_bf16
from kdrobust.data.answers import Answers, AnswerStore
from kdrobust.data.batch import Batch

log = logging.getLogger("kdrobust")


class SharedAnswers(pl.Callback):
    """Reads an epoch's teacher logits where another job has kept them, else keeps those of this one.

    The augmentation of sample i in epoch e is a function of (seed, e, i), so all jobs of a sweep with one seed show
    their teacher the same images. Only for teachers that are asked about clean images and nothing else; has to come
    before the attack among the callbacks. What is read is bit for bit what the teacher would answer.

    Args:
        root: where the answers are kept.
        keys: a teacher's name to what identifies its answers; the loop's own part is added: which process of how many,
            batches an epoch, precisions, device, threads, torch's version.
        limit: bytes on disk, see `AnswerStore`.
    """

    def __init__(self, *, root: Path, keys: Mapping[str, Mapping[str, Any]], limit: float) -> None:
        self.root = root
        self.keys = dict(keys)
        self.limit = limit
        self._stores: dict[str, AnswerStore] = {}
        self._held: dict[str, Answers] = {}
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._read = self._asked = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look for this epoch's answers."""
        own = {
            "replicas": trainer.world_size,
            "batches": trainer.num_training_batches,
            "precision": str(trainer.precision),
            "device": pl_module.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "teacher_precision": pl_module.teacher_precision,
            # what `auto` comes to depends on it
            "fast_bf16": has_fast_bf16(pl_module.device),
        }
        self._held, self._seen = {}, {}
        for name, key in self.keys.items():
            store = self._stores.setdefault(name, AnswerStore(self.root, {**key, **own}, limit=self.limit))
            kept = store.read(trainer.current_epoch, trainer.global_rank)
            # a teacher whose weights lie in shares on the ranks is asked by all of them or by none
            if not trainer.strategy.reduce_boolean_decision(kept is not None, all=True) or kept is None:
                self._seen[name] = []
                self._asked += 1
            else:
                self._held[name] = kept.to(pl_module.device)
                self._read += 1

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Hand the batch its answers, where they are known."""
        for name, answers in self._held.items():
            batch.outputs[f"{name}.clean"] = answers.of(batch.indices)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note what the teachers answered."""
        for name, seen in self._seen.items():
            logits = batch.outputs.get(f"{name}.clean")
            if logits is not None:
                seen.append((batch.indices, logits.detach()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a whole epoch's answers; those of an epoch that was begun elsewhere are not whole."""
        for name, seen in self._seen.items():
            if len(seen) == trainer.num_training_batches:
                answers = Answers.collected(*zip(*seen, strict=True))
                self._stores[name].write(answers, trainer.current_epoch, trainer.global_rank)
        self._seen = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how often the teachers were spared."""
        if self._read and trainer.is_global_zero:
            total = self._read + self._asked
            log.info("the teacher's answers of %d of %d epochs were read, another job had asked it", self._read, total)
