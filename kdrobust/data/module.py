"""The data module: from a source's arrays to batches on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdrobust.data.arrays import Arrays, Source, content_hash
from kdrobust.data.augmentation import Augment, Augmentation
from kdrobust.data.batch import UNKNOWN, Batch
from kdrobust.data.checks import check_arrays, read_source
from kdrobust.data.dataset import BatchDataset, as_it_is
from kdrobust.data.partition import SPLITS, partition
from kdrobust.data.splits import Split, channel_statistics, make_split, to_unit
from kdrobust.data.transformed import transformed
from kdrobust.distributed.sampler import ShuffledBatches, UnpaddedDistributedSampler, position
from kdrobust.errors import CheckpointError, DataError, UsageError
from kdrobust.randomness import address, generator
from kdrobust.spec import InputSpec

#: How many training images kept on disk are read for their mean and standard deviation.
STATISTICS_SAMPLES = 4096


class DataModule(pl.LightningDataModule):
    """Splits, batches and augments what a source gives; inputs leave it as float32 in their bounds.

    The validation set is what the source sets aside, or else a seeded, stratified part of its training set; the test
    set stays as it is. Every
    draw is addressed: the split by `split_seed`, the order of epoch e by (seed, e), the augmentation of sample i in
    epoch e by (seed, e, i), so that batches are the same whatever ran before, and augmentation the same whatever the
    batch size.

    Args:
        source: gives the arrays, see `kdrobust.data.Source`.
        name: what results call this data set.
        root: folder of downloaded data sets, handed to the source.
        batch_size: training samples a batch *and process*: W processes take W times as many a step.
        eval_batch_size: the most samples a validation or test batch and process.
        validation_fraction: share of the training set that becomes the validation set, in (0, 1).
        seed: addresses order and augmentation.
        split_seed: addresses the validation split and the limits. Not the run's seed: students of several seeds share a
            teacher, which must not have trained on their validation samples.
        augmentation: one batched augmentation, or several in their order, for training only; None: none.
        loader: `memory` keeps all images in memory; `workers` reads images that their source keeps in files as batches
            need them, in `num_workers` processes. The batches are the same.
        num_workers: processes that read ahead, for `loader: workers` only; 0: this one.
        limit_train: use at most so many training samples, chosen by class in proportion; None: all.
        limit_validation: the same for validation.
        limit_test: the same for test.
        transform: makes, called with `spec=`, what every sample of all splits passes once, before everything else: see
            `kdrobust.transforms`. None: samples are as the source gives them.
        unlabelled: forget the labels of training and validation samples where they are read: every label of theirs is
            `UNKNOWN`, and neither the splits nor the fingerprint depend on what it was. The test set keeps its labels.

    Raises:
        ValueError: a value out of its range; the message begins with the argument's name.
    """

    def __init__(
        self,
        *,
        source: Source,
        name: str,
        root: str | Path = "datasets",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        validation_fraction: float = 0.1,
        seed: int = 0,
        split_seed: int = 0,
        augmentation: Augment | Sequence[Augment] | None = None,
        loader: Literal["memory", "workers"] = "memory",
        num_workers: int = 0,
        limit_train: int | None = None,
        limit_validation: int | None = None,
        limit_test: int | None = None,
        transform: Callable[..., nn.Module] | None = None,
        unlabelled: bool = False,
    ) -> None:
        super().__init__()
        limits = {"limit_train": limit_train, "limit_validation": limit_validation, "limit_test": limit_test}
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, **limits}
        for key, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected at least 1, got {value}")
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction: expected a number between 0 and 1, got {validation_fraction}")
        if loader not in ("memory", "workers"):
            raise ValueError(f"loader: expected memory or workers, got {loader!r}")
        if num_workers < 0 or (num_workers and loader == "memory"):
            raise ValueError(f"num_workers: {num_workers} needs loader=workers, and at least 0; memory reads by itself")
        self.source = source
        self.name = name
        self.root = Path(root).expanduser()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.split_seed = split_seed
        given: Any = [] if augmentation is None else augmentation
        chain: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
        for step in chain:
            if not callable(step):
                raise ValueError(_no_augmentation(step))
        self.augmentations: list[Augment] = [step for step in chain if getattr(step, "active", True)]
        self.loader = loader
        self.num_workers = num_workers
        self.limits = limits
        self.transform = transform
        self.unlabelled = unlabelled
        #: The epoch augmentation is drawn at where no trainer is attached.
        self.epoch = 0
        self._splits: dict[str, Split] = {}
        self._outputs: dict[str, dict[str, Tensor]] = {}
        self._spec: InputSpec | None = None
        self._fingerprint = ""
        self._trained = (0, 0)

    def prepare(self) -> None:
        """Read, check and split the data; does nothing the second time.

        Raises:
            DataError: data that are missing, damaged or cannot be used.
            UsageError: limits or augmentation that do not fit the data.
        """
        if self._spec is not None:
            return
        arrays = read_source(self.source, self.root)
        if self.unlabelled:
            arrays = replace(arrays, y_train=np.full(len(arrays.x_train), UNKNOWN, dtype=np.int64))
        classes = check_arrays(arrays, unlabelled=self.unlabelled)
        if self.transform is not None:
            arrays = transformed(arrays, self.transform, classes)
        shape = tuple(int(side) for side in arrays.x_train.shape[1:])
        if len(shape) != 3 and any(isinstance(step, Augmentation) for step in self.augmentations):
            raise UsageError(f"data.augmentation: for images only, and samples have shape {shape}; set it to null")
        rows = partition(
            # without labels all samples count as one class
            replace(arrays, y_train=np.zeros_like(arrays.y_train), class_names=()) if self.unlabelled else arrays,
            fraction=self.validation_fraction,
            limits=self.limits,
            seed=self.split_seed,
            classes=1 if self.unlabelled else classes,
        )
        on_disk = self.loader == "workers"
        for split, chosen in rows.items():
            images, labels = (arrays.x_test, arrays.y_test) if split == "test" else (arrays.x_train, arrays.y_train)
            self._splits[split] = make_split(images, labels, chosen, keep_on_disk=on_disk)
        self._fingerprint = self._hash(arrays)
        train = self._splits["train"]
        mean, std = channel_statistics(train, at_most=None if isinstance(train.store, Tensor) else STATISTICS_SAMPLES)
        names = arrays.class_names or tuple(str(number) for number in range(classes))
        self._spec = InputSpec(
            shape=shape,
            classes=classes,
            mean=mean,
            std=std,
            class_names=names,
            bounds=arrays.bounds,
            sample_rate=arrays.sample_rate,
            peak=arrays.peak,
        )

    def _hash(self, arrays: Arrays) -> str:
        state = hashlib.sha256()
        for key in ("x_train", "y_train", "x_test", "y_test"):
            state.update(f"{key}:{content_hash(getattr(arrays, key))}\n".encode())
        for split in SPLITS:
            state.update(f"{split}:{content_hash(self._splits[split].rows.numpy())}\n".encode())
        return state.hexdigest()

    def prepare_data(self) -> None:
        """Lightning's hook: `prepare`."""
        self.prepare()

    def setup(self, stage: str) -> None:
        """Lightning's hook: `prepare`."""
        self.prepare()

    @property
    def announced(self) -> tuple[int, tuple[int, ...]] | None:
        """Classes and shape where they are known before anything is read or downloaded; else None."""
        form: tuple[int, tuple[int, ...]] | None = getattr(self.source, "form", None)
        return form if self.transform is None else None

    @property
    def spec(self) -> InputSpec:
        """Shape, classes, and the training split's mean and standard deviation (estimated, if it stays on disk)."""
        self.prepare()
        assert self._spec is not None
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Sha256 in hex over images, labels and which samples are in which split, in what order."""
        self.prepare()
        return self._fingerprint

    def split(self, name: str) -> Split:
        """The samples of `train`, `validation` or `test`.

        Raises:
            ValueError: no split of that name.
        """
        if name not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
        self.prepare()
        return self._splits[name]

    def attach_outputs(self, outputs: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Let batches carry a teacher's logits, computed beforehand on the images as they are.

        Args:
            outputs: split to `"<teacher>.<view>"` to [N, K] logits, in the order of the split. Loaders made from now on
                use them.

        Raises:
            UsageError: outputs for a training set that is augmented: they belong to other inputs than the student sees.
            CheckpointError: logits of another number of samples or classes, or for a split that does not exist.
        """
        if self.augmentations and outputs.get("train"):
            raise UsageError(
                "data.augmentation: stored teacher outputs belong to images that are not augmented; "
                "set data.augmentation=null, or use a live teacher (teacher.outputs=null)"
            )
        for split, tensors in outputs.items():
            if split not in SPLITS:
                raise CheckpointError(f"stored outputs: no split {split!r} (there are {', '.join(SPLITS)})")
            expected = (len(self.split(split)), self.spec.classes)
            for key, logits in tensors.items():
                if tuple(logits.shape) != expected:
                    raise CheckpointError(
                        f"stored outputs: {split}/{key} has shape {tuple(logits.shape)}, {self.name} needs {expected}; "
                        "run `kdrobust outputs` on the data you train on"
                    )
        for split, tensors in outputs.items():
            # several teachers' outputs may be attached one after the other
            self._outputs[split] = {**self._outputs.get(split, {}), **tensors}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches, equally many and equally large on every process; see `ShuffledBatches`."""
        samples = self._enough("train")
        batches = ShuffledBatches(size=samples, batch_size=self.batch_size, seed=self.seed)
        # the loader that training goes on with; later ones (for statistics of the whole set) leave nothing out
        batches.trained, self._trained = self._trained, (0, 0)
        # processes that read ahead begin with the loader's iterator, before Lightning says which epoch it is
        batches.set_epoch(batches.trained[0])
        return self._load("train", batches)

    def state_dict(self) -> dict[str, Any]:
        """Which epoch's how many batches have been trained on: a resumed run goes on with the next one."""
        trainer = self.trainer
        if trainer is None:
            return {}
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        return {"epoch": int(trainer.current_epoch), "batches": int(progress.processed)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`; the next `train_dataloader` leaves those batches out."""
        self._trained = (int(state_dict["epoch"]), int(state_dict["batches"]))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation sample once over all processes; see `UnpaddedDistributedSampler`."""
        return self._evaluate("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test sample once over all processes; see `UnpaddedDistributedSampler`."""
        return self._evaluate("test")

    def _enough(self, split: str) -> int:
        samples, processes = len(self.split(split)), position()[1]
        if samples < processes:
            raise DataError(
                f"{self.name}: {samples} {split} samples for {processes} processes; set trainer.devices={samples}"
            )
        return samples

    def _evaluate(self, split: str) -> DataLoader[Batch]:
        sampler = UnpaddedDistributedSampler(size=self._enough(split), batch_size=self.eval_batch_size)
        return self._load(split, sampler)

    def _load(self, split: str, sampler: ShuffledBatches | UnpaddedDistributedSampler) -> DataLoader[Batch]:
        dataset = BatchDataset(self.split(split), self._outputs.get(split))
        # batch_size=None: the sampler's index tensors are whole batches, and Lightning finds set_epoch on it
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            collate_fn=as_it_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # an iterator draws a number for its workers: not from the generator that a model's dropout reads next, as a
            # resumed epoch makes its iterator at another place than an uninterrupted one
            generator=generator(self.seed, "loader"),
        )

    def process(self, batch: Batch, *, training: bool, epoch: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
        """Augment (in training) and bring to [0, 1], on the device the batch is on.

        Args:
            batch: as the loaders give it.
            training: whether to augment.
            epoch: which augmentation.
            dtype: of the inputs.
        """
        inputs = batch.inputs
        for place, augment in enumerate(self.augmentations if training else ()):
            inputs = augment(inputs, batch.indices, seed=address(self.seed, "augmentation", place, epoch))
        batch.inputs = to_unit(inputs, dtype)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook: `process`, augmenting if the trainer is training."""
        trainer = self.trainer
        if trainer is None:
            return self.process(batch, training=False, epoch=self.epoch)
        # 64-true: a model in double precision takes no float32
        double = getattr(trainer.lightning_module, "dtype", None) == torch.float64
        return self.process(
            batch,
            training=bool(trainer.training),
            epoch=int(trainer.current_epoch),
            dtype=torch.float64 if double else torch.float32,
        )


def _no_augmentation(step: Any) -> str:
    if not isinstance(step, Mapping):
        return f"augmentation: expected augmentations or null, got {step!r}"
    inside = ",".join(
        f"{key}:{str(value).lower() if isinstance(value, bool) else value}" for key, value in step.items()
    )
    return (
        f"augmentation: {dict(step)} names no class; write "
        f"'data.augmentation={{_target_:kdrobust.data.Augmentation{',' if inside else ''}{inside}}}'"
    )
