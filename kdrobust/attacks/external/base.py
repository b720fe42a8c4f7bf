"""What every attack of another library has in common: checked before, guarded meanwhile, judged by us afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_inputs, check_logits, check_shapes, is_wrong
from kdrobust.attacks.external.guard import Facade, guarded
from kdrobust.attacks.goals import margin
from kdrobust.attacks.partial import Partial
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.threat import Threat, per_sample
from kdrobust.errors import AttackError
from kdrobust.losses.numerics import lift
from kdrobust.models.inplace import IN_PLACE

#: How far beyond ball and box float32 arithmetic may end without being worth a note.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a library returned.

    Attributes:
        adversarial: x' as it came, [B, ...].
        extra: further numbers a sample by name, each [B].
        notes: what the library warned of, one line each.
    """

    adversarial: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ExternalAttack(ABC):
    r"""An attack whose search is somebody else's code.

    Before it: pixels, labels and logits are checked. During it: the library meets a `Facade`, see `guarded`. After it:
    $x'$ is projected on ball and box (how many lay outside, and how far, becomes a note), and whether it fools is asked
    of the model itself; what the library says about its success is not used. The goal reported is the margin
    $\max_{j \ne y} z_j - z_y$ at $x$ and at $x'$.

    Libraries draw by batch, not by sample: other than our own attacks', these verdicts may depend on the batch size,
    the samples' order and the number of processes. The batch size is part of the description for that reason.

    Args:
        threat: norm, ε and pixel range, which has to be [0, 1].
        batch_size: samples a batch >= 1.

    Raises:
        ValueError: another pixel range, or a batch size below 1.
    """

    #: Given all samples at once: the batches are this attack's own matter.
    whole = True

    def __init__(self, *, threat: Threat, batch_size: int) -> None:
        if tuple(threat.bounds) != (0.0, 1.0):
            raise ValueError(f"threat: bounds are {list(threat.bounds)}, {type(self).__name__} needs pixels in [0, 1]")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number >= 1, got {batch_size}")
        self.threat = threat
        self.batch_size = batch_size

    @abstractmethod
    def search(
        self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int, seed: int, partial: Partial | None
    ) -> Found:
        """Run the library.

        Args:
            model: what to attack.
            inputs: x, [B, ...] float32 in [0, 1]; a copy of its own.
            labels: [B] int64.
            classes: K.
            seed: address of the draws.
            partial: where an attack of several parts keeps how far it has come.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""

    def __call__(
        self, model: Model, inputs: Tensor, labels: Tensor, *, keys: Tensor | None = None, seed: int = 0
    ) -> Tensor:
        """Return x' alone; arguments and errors as of `run`."""
        return self.run(model, inputs, labels, keys=keys, seed=seed).adversarial

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
        partial: Partial | None = None,
    ) -> AttackResult:
        """Attack samples; leaves no trace, works under `no_grad` and `inference_mode`, in any floating type.

        Args:
            model: inputs to logits [B, K].
            inputs: clean x in [0, 1], [B, ...] floating.
            labels: true classes, [B] integers.
            keys: [B], checked but not used: see the class.
            seed: what the library's generators begin at.
            partial: where an attack of several parts keeps how far it has come.

        Raises:
            AttackError: inputs or outputs an attack cannot be honest about, or an answer of another shape.
        """
        check_shapes(inputs, labels, keys=keys)
        with guarded(model, device=inputs.device, seed=seed):
            clean, truth = inputs.detach().clone(), labels.detach().clone().long()
            check_inputs(clean, truth, self.threat.bounds)
            if not len(clean):
                nothing = clean.new_zeros(0)
                return AttackResult(adversarial=clean, goal_start=nothing, goal_end=nothing, fooled=truth.bool())
            version = clean._version
            before = self._ask(model, clean)
            if clean._version != version:
                raise AttackError(IN_PLACE)
            check_logits(before, truth)
            found = Found(adversarial=clean)
            if self.threat.radius > 0:
                single = clean.float() if clean.dtype != torch.float32 else clean.clone()
                found = self.search(
                    Facade(model, clean), single, truth, classes=before.shape[1], seed=seed, partial=partial
                )
            adversarial, notes = self._admit(found.adversarial, clean)
            after = self._ask(model, adversarial)
            return AttackResult(
                adversarial=adversarial,
                goal_start=margin(before, truth),
                goal_end=margin(after, truth),
                fooled=is_wrong(after, truth),
                extra=found.extra,
                notes=(*found.notes, *notes),
            )

    def _ask(self, model: Model, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            pieces = [model(piece) for piece in torch.split(inputs, self.batch_size)]
        if not all(isinstance(piece, Tensor) for piece in pieces):
            raise AttackError(f"the model returned {type(pieces[0]).__name__}; expected a tensor of logits [B, K]")
        return torch.cat(pieces)

    def _admit(self, found: Tensor, clean: Tensor) -> tuple[Tensor, list[str]]:
        """The answer inside ball and box, and what had to be done for that."""
        name, n, notes = type(self).__name__, len(clean), []
        if found.shape != clean.shape:
            raise AttackError(f"{name} returned shape {tuple(found.shape)} for inputs {tuple(clean.shape)}")
        found = found.detach().to(lift(clean))
        lost = ~found.flatten(1).isfinite().all(dim=1)
        if bool(lost.any()):
            found = torch.where(per_sample(lost, found), lift(clean), found)
            notes.append(f"{int(lost.sum())} of {n} answers held NaN or infinite pixels: they count as clean inputs")
        beyond = self.threat.distance(found, clean) - self.threat.radius
        outside = torch.maximum(-found, found - 1.0).flatten(1).amax(dim=1)
        for where, excess in (("the ball", beyond), ("[0, 1]", outside)):
            far = excess > _ROUNDING * max(1.0, self.threat.radius)
            if bool(far.any()):
                notes.append(
                    f"{int(far.sum())} of {n} answers left {where}, by up to {float(excess.max()):.3g}: "
                    "they were projected back before they were judged"
                )
        return self.threat.project(found, clean, self.threat.radius), notes
