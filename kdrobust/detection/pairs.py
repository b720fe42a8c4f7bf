"""Clean and attacked inputs as a data set of two classes, made from another data set and a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdrobust.data import Arrays, DataModule
from kdrobust.data.corruptions import corrupt
from kdrobust.data.corruptions.table import CORRUPTIONS, check_names
from kdrobust.detection.crafting import Attack, craft
from kdrobust.errors import DataError, UsageError
from kdrobust.models import check_spec, file_hash, read_checkpoint, restore_classifier

#: The classes of a detector, by label.
CLASSES = ("clean", "attacked")


class Pairs:
    """Inputs of another data set, clean (0) and attacked (1), for a detector to be trained on.

    Attacked are every sample of a split by every attack, made on `surrogate`; kept are those that fool it. Clean are
    the samples as they are and, so that noise or blur count as no attack, each of them under each of `shifts`. Splits
    are the other data set's own: no validation sample has been trained on, by the detector nor by a classifier trained
    on the same `data=`. The test split holds the same attacks; `evaluation=detection` measures others.

    What was made is kept in `<root>/detection`, by what decides it.

    Args:
        data: what is attacked: another data module, of images without augmentation.
        classifier: checkpoint of the classifier that is protected; the evaluation attacks it.
        surrogate: checkpoint of the model that these attacks are made on; another one than the classifier.
        attacks: by name; each with its own threat.
        shifts: `names` and `severities` of the corruptions that count as clean, see `kdrobust.data.corruptions`.
        seed: addresses random starts and corruptions; not the run's.
        device: where attacks are computed: `cpu` or `cuda`.

    Raises:
        UsageError: no attack, the classifier as its own surrogate, or an unknown corruption.
    """

    def __init__(
        self,
        *,
        data: DataModule,
        classifier: str,
        surrogate: str,
        attacks: Mapping[str, Attack],
        shifts: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not attacks:
            raise UsageError("data.source.attacks: none given; a detector learns from at least one")
        if surrogate == classifier:
            raise UsageError(
                "data.source.surrogate: is the protected classifier; train another model for the training attacks, "
                "so that the test's are made on one the detector has not met"
            )
        self.data = data
        self.classifier = classifier
        self.surrogate = surrogate
        self.attacks: dict[str, Attack] = dict(attacks)
        given = dict(shifts or {})
        self.shifts: Sequence[str] = list(given.get("names") or [])
        self.severities: Sequence[int] = list(given.get("severities") or [])
        try:
            check_names(list(self.shifts), list(self.severities), CORRUPTIONS)
        except UsageError as error:
            raise UsageError(f"data.source.shifts: {str(error).partition(': ')[2]}") from None
        self.seed = seed
        self.device = device

    def load(self, root: Path) -> Arrays:
        """Read the other data set, attack it, and put both together.

        Raises:
            DataError: it holds no images.
            UsageError: a checkpoint that is not there.
            CheckpointError: one that cannot be read, or is of other data.
        """
        for key, path in (("classifier", self.classifier), ("surrogate", self.surrogate)):
            if not Path(path).is_file():
                raise UsageError(f"data.source.{key}={path}: no such checkpoint; train one with `kdrobust teacher`")
        self.data.prepare()
        if len(self.data.spec.shape) != 3 or self.data.spec.bounds != (0.0, 1.0):
            raise DataError(f"data.source.data={self.data.name}: a detector takes images in [0, 1]")
        for path in (self.classifier, self.surrogate):
            check_spec(read_checkpoint(path), self.data.spec, path)
        read = {name: self._split(name, root / "detection") for name in ("train", "validation", "test")}
        train, validation, test = read["train"], read["validation"], read["test"]
        rows = np.arange(len(train[1]), len(train[1]) + len(validation[1]), dtype=np.int64)
        return Arrays(
            x_train=torch.cat([train[0], validation[0]]).numpy(),
            y_train=torch.cat([train[1], validation[1]]).numpy(),
            x_test=test[0].numpy(),
            y_test=test[1].numpy(),
            origin=f"attacks on {self.data.name}",
            class_names=CLASSES,
            validation=rows,
        )

    def describe(self) -> dict[str, Any]:
        """What the detector is trained on, for result files."""
        return {
            "data": self.data.name,
            "surrogate": {"path": self.surrogate, "sha256": file_hash(self.surrogate)},
            "attacks": {name: attack.describe() for name, attack in self.attacks.items()},
            "shifts": {"names": list(self.shifts), "severities": list(self.severities)},
        }

    def clean(self, split: str) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels [N, ...] in [0, 1], the other data set's labels [N] and keys [N] of a split, nothing attacked."""
        samples = self.data.split(split)
        return samples.pixels(torch.arange(len(samples.labels))), samples.labels, samples.indices

    def natural(self, split: str) -> list[Tensor]:
        """The clean pixels of a split as they are, then under each shift and severity, [N, ...] each."""
        inputs, _, keys = self.clean(split)
        shifts = [(name, int(level)) for name in self.shifts for level in self.severities]
        return [inputs, *(corrupt(inputs, name, level, keys=keys, seed=self.seed) for name, level in shifts)]

    def _split(self, split: str, folder: Path) -> tuple[Tensor, Tensor]:
        model = restore_classifier(self.surrogate).eval()
        inputs, labels, keys = self.clean(split)
        context = {"model": file_hash(self.surrogate), "data": self.data.fingerprint, "split": split}
        attacked = []
        for name, attack in self.attacks.items():
            made = craft(
                attack,
                model,
                inputs,
                labels,
                keys,
                name=f"{name}, {split}",
                context=context,
                folder=folder,
                seed=self.seed,
                device=self.device,
            )
            attacked.append(made.inputs[made.fooled])
        both = [torch.cat(self.natural(split)), torch.cat(attacked)]
        classes = torch.cat([torch.full((len(part),), label) for label, part in enumerate(both)])
        return torch.cat(both), classes
