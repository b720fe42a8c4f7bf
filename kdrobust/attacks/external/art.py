"""Evasion attacks of the Adversarial Robustness Toolbox, by name."""

from __future__ import annotations

import logging.config
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks.external.guard import Facade
from kdrobust.attacks.external.library import LibraryAttack, load_library
from kdrobust.attacks.threat import Threat

_NORMS = {"linf": np.inf, "l2": 2}


class ArtAttack(LibraryAttack):
    """An evasion attack of ART, e.g. `AutoProjectedGradientDescent`, `HopSkipJump` or `CarliniL2Method`.

    ART works in NumPy and float32, one copy to the CPU and back for every batch. Its attacks are untargeted here: the
    labels given are the true ones.

    Args:
        threat: norm, ε and pixels in [0, 1]; handed on where the attack takes `norm` and `eps`.
        name: the class in `art.attacks.evasion`.
        options: e.g. `{max_iter: 100, nb_random_init: 1}`.
        batch_size: samples a batch.

    Raises:
        ValueError, UsageError: see `LibraryAttack`.

    Source: Nicolae et al., "Adversarial Robustness Toolbox v1.0.0", 2018, arXiv:1807.01069.
    """

    module = "art.attacks.evasion"
    install = "pip install 'kdrobust[art]'"
    reserved: ClassVar[dict[str, str]] = {
        "estimator": "the evaluation",
        "classifier": "the evaluation",
        "eps": "threat.eps",
        "norm": "threat.norm",
        "batch_size": "the attack's batch_size",
    }

    def __init__(
        self, *, threat: Threat, name: str, options: Mapping[str, Any] | None = None, batch_size: int = 250
    ) -> None:
        with _logging_kept():
            load_library(self.module, self.install)
        super().__init__(threat=threat, name=name, options=options, batch_size=batch_size)
        self._classifier: Any = load_library("art.estimators.classification", self.install).PyTorchClassifier

    def perturb(self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int) -> Tensor:
        """One batch; see `LibraryAttack.perturb`."""
        estimator = self._classifier(
            model=model.eval(),
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(inputs.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if inputs.device.type == "cuda" else "cpu",
        )
        settings = self.taken(
            eps=self.threat.radius, norm=_NORMS[self.threat.norm], batch_size=len(inputs), verbose=False
        )
        found = self.factory(estimator, **settings).generate(x=inputs.cpu().numpy(), y=labels.cpu().numpy())
        return torch.from_numpy(np.asarray(found)).to(inputs)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """ART configures logging when it is imported, which closes every handler of the program that imports it."""
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure
