"""Attacks of torchattacks, by name."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from kdrobust.attacks.external.guard import Facade
from kdrobust.attacks.external.library import LibraryAttack


class TorchAttack(LibraryAttack):
    """An attack of torchattacks, e.g. `VMIFGSM`, `PGDL2` or `OnePixel`.

    Version 3.5.1 asks for a version of `requests` from 2021, which current packages refuse; it needs none of it to
    attack. Hence `pip install --no-deps torchattacks==3.5.1`, and no extra of kdrobust.

    Args:
        threat: norm, ε and pixels in [0, 1]; which norm an attack works in is said by its name.
        name: the class in `torchattacks`.
        options: e.g. `{steps: 10, alpha: 2/255}`; `eps` comes from the threat.
        batch_size: samples a batch.

    Raises:
        ValueError, UsageError: see `LibraryAttack`.

    Source: Kim, "Torchattacks: a PyTorch repository for adversarial attacks", 2020, arXiv:2010.01950.
    """

    module = "torchattacks"
    install = "pip install --no-deps torchattacks==3.5.1"
    reserved: ClassVar[dict[str, str]] = {"model": "the evaluation", "eps": "threat.eps"}

    def perturb(self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int) -> Tensor:
        """One batch; see `LibraryAttack.perturb`."""
        settings: dict[str, Any] = self.taken(eps=self.threat.radius, n_classes=classes)
        found: Tensor = self.factory(model, **settings)(inputs, labels)
        return found
