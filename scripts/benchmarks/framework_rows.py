"""Rows about what stands around the step: Lightning with callbacks and loggers, and the data pipeline."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from timing import alternate, compared
from torch.utils.data import DataLoader, TensorDataset

from kdrobust.config import compose, config_hash, instantiate
from kdrobust.data import DataModule
from kdrobust.modules import DistillationModule
from kdrobust.shorthand import spell_out
from kdrobust.stages.setup import check_method, prepare_data, prepare_objective
from kdrobust.stages.start import new_student
from kdrobust.stages.training import build_trainer, module_arguments

#: Row to (overrides of `kdrobust distill`, images' shape or None for the digits, epochs timed).
SETTINGS = {
    "mlp": (["model@student=mlp", "data=digits"], None, 20),
    "resnet18": (["model@student=resnet18", "data=npz", "data.batch_size=64"], (3, 32, 32), 1),
}
_BATCHES = 4


class _Stopwatch(pl.Callback):
    """Wall and processor time of an epoch's batches, without what is validated and saved between epochs."""

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, place: int) -> None:
        if place == 0:
            self._began = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *others: Any) -> None:
        if trainer.is_last_batch:
            self.seconds.append((time.perf_counter() - self._began[0], time.process_time() - self._began[1]))


@contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("kdrobust", "pytorch_lightning", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _made_up(folder: Path, shape: tuple[int, ...], batches: int, size: int) -> list[str]:
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", batches * size), ("test", 20)):
        arrays[f"x_{split}"] = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    np.savez(folder / "made_up.npz", **arrays)
    return [f"data.source.path={folder / 'made_up.npz'}"]


def overhead(shape: str, *, repeats: int) -> dict[str, dict[str, Any]]:
    """RSLAD's epochs under Lightning with the default callbacks, and the same steps in a bare loop.

    Both draw from the same loader, attack by the same object and step the same optimiser and learning rate; the bare
    loop is nothing else. The teacher is an untrained network of the student's kind. Epochs take turns.
    """
    overrides, images, epochs = SETTINGS[shape]
    with tempfile.TemporaryDirectory() as place, _silence():
        folder = Path(place)
        if images is not None:
            overrides = [*overrides, *_made_up(folder, images, _BATCHES + 1, 64), "data.validation_fraction=0.2"]
        words = [*overrides, f"run.folder={folder}", f"epochs={epochs * (repeats + 1)}", "data.limit_validation=20"]
        cfg = compose("distill", spell_out("distill", words))
        objective = check_method(cfg, teachers=lambda *_: [])
        data = prepare_data(cfg)
        attack = instantiate(cfg.attack)

        def module() -> DistillationModule:
            model, node = new_student(cfg, data)
            teacher = new_student(cfg, data)[0].eval().requires_grad_(False)
            prepare_objective(objective, {"student": model, "teacher": teacher}, data.spec, 0)
            return DistillationModule(
                model=model, objective=objective, teachers={"teacher": teacher}, **module_arguments(cfg, node, data)
            )

        watch = _Stopwatch()
        trainer = build_trainer(cfg, folder, config_hash(cfg))
        trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
        bare = module()
        loader, spent = data.train_dataloader(), []
        rule = instantiate(cfg.optimizer)(params=bare.model.parameters())
        rate = instantiate(cfg.scheduler)["factory"](rule, total_steps=len(loader) * epochs * (repeats + 1))

        class Turns(pl.Callback):
            """After an epoch of Lightning's the bare loop has its own."""

            def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
                spent.append(_bare_epoch(bare, attack, data, loader, rule, rate, trainer.current_epoch))

        trainer.callbacks.append(Turns())  # type: ignore[attr-defined]
        trainer.fit(module(), datamodule=data)
    return compared({"bare loop": spent[epochs:], "kdrobust under Lightning": watch.seconds[epochs:]})


def _bare_epoch(
    module: DistillationModule, attack: Any, data: DataModule, loader: Any, rule: Any, rate: Any, epoch: int
) -> tuple[float, float]:
    began, worked = time.perf_counter(), time.process_time()
    module.train()
    for batch in loader:
        data.process(batch, training=True, epoch=epoch)
        batch.adversarial = module.craft(attack, batch, where=epoch)
        loss = module.objective(module.views(batch), float(epoch)).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
        rate.step()
    return time.perf_counter() - began, time.process_time() - worked


def pipeline(*, repeats: int, count: int = 5_000, size: int = 128) -> dict[str, dict[str, Any]]:
    """Batches of augmented 3×32×32 images: ours from memory, and torchvision's transforms in a DataLoader."""
    with tempfile.TemporaryDirectory() as place, _silence():
        folder = Path(place)
        words = [*_made_up(folder, (3, 32, 32), 1, count), "data=npz", f"data.batch_size={size}"]
        words.append("data.augmentation={_target_: kdrobust.data.Augmentation, crop_padding: 4, flip: true}")
        data = prepare_data(compose("distill", spell_out("distill", words)))
        ours = data.train_dataloader()
        split = data.split("train")

        from torchvision.transforms import v2

        change = v2.Compose(
            [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
        )

        class Images(TensorDataset):
            def __getitem__(self, index: int) -> Any:
                image, label = super().__getitem__(index)
                return change(image), label

        pixels = (255 * split.pixels(torch.arange(len(split.labels)))).round().to(torch.uint8)
        theirs = DataLoader(Images(pixels, split.labels), batch_size=size, shuffle=True)

        runs: dict[str, Callable[[], int]] = {
            "torchvision's transforms in a DataLoader": lambda: sum(len(labels) for _, labels in theirs),
            "kdrobust": lambda: sum(len(data.process(batch, training=True)) for batch in ours),
        }
        table = alternate(runs, repeats)
    for row in table.values():
        row["reached"] = {"images": row.pop("answer")}
    return table
