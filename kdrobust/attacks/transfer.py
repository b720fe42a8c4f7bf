"""Black-box by transfer: examples made on one model, tried on another."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdrobust.attacks.contract import check_logits, check_shapes, clean_logits, is_wrong
from kdrobust.attacks.goals import cross_entropy
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.threat import Threat
from kdrobust.attacks.undisturbed import undisturbed


class _Attack(Protocol):
    threat: Threat

    def run(self, model: Any, inputs: Tensor, labels: Tensor, *, keys: Tensor | None, seed: int) -> AttackResult:
        """Attack a batch."""

    def describe(self) -> dict[str, Any]:
        """Plain values."""


class TransferAttack:
    """An attack on a source model whose examples are shown to the model under attack, which is asked nothing else.

    A sample the source itself answers wrongly is attacked all the same. The goal's values are the cross-entropy of the
    model under attack at x and at x'.

    Args:
        source: the model that examples are made on, inputs in [0, 1] to logits.
        attack: makes them.
        name: what the source is called in results.
        origin: plain values that say which model the source is, such as its checkpoint's hash.

    Source: Papernot et al. 2016, arXiv:1605.07277; momentum makes examples that transfer: Dong et al., CVPR 2018,
    arXiv:1710.06081.
    """

    def __init__(
        self, *, source: nn.Module, attack: _Attack, name: str = "source", origin: dict[str, Any] | None = None
    ) -> None:
        self.source = source.eval()
        self.attack = attack
        self.name = name
        self.origin = dict(origin or {})

    def run(
        self, model: Any, inputs: Tensor, labels: Tensor, *, keys: Tensor | None = None, seed: int = 0
    ) -> AttackResult:
        """Craft on the source, judge on the model.

        Args:
            model: the model under attack.
            inputs: clean x in [0, 1], [B, ...].
            labels: true classes, [B] integers.
            keys: [B] integers that address each sample's random start.
            seed: address of the random starts.

        Raises:
            AttackError: inputs, or outputs of either model, that no attack can be honest about.
        """
        check_shapes(inputs, labels)
        self.source.to(inputs.device)
        made = self.attack.run(self.source, inputs, labels, keys=keys, seed=seed)
        with undisturbed(model, None, mode="eval", device=inputs.device, seed=seed), torch.no_grad():
            truth = labels.detach().long()
            before, after = clean_logits(model, inputs), model(made.adversarial)
            check_logits(before, truth)
        return AttackResult(
            adversarial=made.adversarial,
            goal_start=cross_entropy(before, truth),
            goal_end=cross_entropy(after, truth),
            fooled=is_wrong(after, truth),
            extra={"fooled_source": made.fooled.float()},
            notes=made.notes,
        )

    def describe(self) -> dict[str, Any]:
        """Settings of the attack, and the source's name and origin. `black_box`: no gradient of the model is used."""
        inner = self.attack.describe()
        return {
            "attack": type(self).__name__,
            "black_box": True,
            "threat": inner["threat"],
            "source": {"name": self.name, **self.origin},
            "made_by": inner,
        }
