"""Attacks of Foolbox, by name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kdrobust.attacks.external.guard import Facade
from kdrobust.attacks.external.library import LibraryAttack


class FoolboxAttack(LibraryAttack):
    """An attack of Foolbox, e.g. `LinfDeepFoolAttack`, `L2CarliniWagnerAttack` or `LinfPGD`.

    It is asked for an answer within ε. Minimum-norm attacks look for the nearest adversarial example first; where that
    lies beyond ε the sample stands.

    Args:
        threat: norm, ε and pixels in [0, 1]; which norm an attack works in is said by its name.
        name: the class in `foolbox.attacks`.
        options: e.g. `{steps: 50}`.
        batch_size: samples a batch.

    Raises:
        ValueError, UsageError: see `LibraryAttack`.

    Source: Rauber et al., "Foolbox Native", JOSS 5 (2020), 2607.
    """

    module = "foolbox.attacks"
    install = "pip install 'kdrobust[foolbox]'"
    reserved: ClassVar[dict[str, str]] = {"epsilons": "threat.eps", "epsilon": "threat.eps"}

    def perturb(self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int) -> Tensor:
        """One batch; see `LibraryAttack.perturb`."""
        wrapped = self.library.PyTorchModel(model.eval(), bounds=(0.0, 1.0), device=inputs.device)
        _, clipped, _ = self.factory(**self.taken())(wrapped, inputs, labels, epsilons=self.threat.radius)
        found: Tensor = clipped
        return found
