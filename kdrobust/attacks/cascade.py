"""Attacks one after the other, each on the samples the ones before left standing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_shapes, is_wrong
from kdrobust.attacks.goals import margin, normal_tensor
from kdrobust.attacks.partial import Partial, pack_notes, unpack_notes
from kdrobust.attacks.result import AttackResult, higher
from kdrobust.attacks.samples import EvaluationAttack, prepared
from kdrobust.attacks.settings import count
from kdrobust.attacks.threat import Threat, default_keys, per_sample
from kdrobust.errors import UsageError, keys_below
from kdrobust.randomness import address

log = logging.getLogger("kdrobust")
#: What is kept a sample after each attack.
_KEPT = ("point", "worth", "fooled", "broken_by")


class Member(Protocol):
    """What a cascade asks of an attack."""

    def run(
        self, model: Model, inputs: Tensor, labels: Tensor, *, keys: Tensor | None, seed: int, validate: bool
    ) -> AttackResult:
        """Attack a batch."""

    def describe(self) -> dict[str, Any]:
        """All settings; `minimum_norm` where the answer may lie outside ε."""


class Cascade(EvaluationAttack):
    """The worst case over several attacks, none of which looks at a sample that is already broken.

    Cheap and decisive attacks belong first. Batches are filled anew for each attack from what still stands of the
    whole set, so the last attacks run on full batches. Every attack's random numbers have the address of its name and
    the sample's key: neither the order of the attacks nor the batch size changes a verdict. With APGD on cross-entropy
    and on the targeted DLR, a targeted minimum-norm attack and Square it is built like AutoAttack.

    Args:
        threat: norm, ε and pixel range of all of them.
        attacks: by name, in order; a minimum-norm attack breaks what it answers within ε.
        batch_size: samples attacked at once >= 1.

    Raises:
        UsageError: no attacks, an attack of another threat model or that is none, a batch size below 1.

    Source: Croce & Hein, ICML 2020, arXiv:2003.01690, section 6 (an ensemble, each on the survivors).
    """

    #: A suite gives it all samples at once, and keeps what each attack has found.
    whole = True
    resumable = True

    def __init__(self, *, threat: Threat, attacks: Mapping[str, Member], batch_size: int = 250) -> None:
        if not attacks:
            raise UsageError("attack.attacks={}: a cascade needs at least one attack")
        for name, attack in attacks.items():
            if not callable(getattr(attack, "run", None)) or not callable(getattr(attack, "describe", None)):
                raise UsageError(f"attack.attacks.{name}: {type(attack).__name__} is no attack")
            other = attack.describe().get("threat", threat.describe())
            if other != threat.describe():
                raise UsageError(
                    f"attack.attacks.{name}.threat: {other} differs from the cascade's {threat.describe()}; "
                    "give both the same"
                )
        self.threat = threat
        self.attacks = dict(attacks)
        self.batch_size = count("batch_size", batch_size, least=1)

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
        validate: bool = True,
        partial: Partial | None = None,
    ) -> AttackResult:
        """Attack all samples. The goal reported is the Carlini-Wagner margin.

        Args:
            model: inputs to logits.
            inputs: clean x in the threat's bounds, [N, ...] floating.
            labels: true classes, [N] integers.
            keys: [N] integers that address each sample's random numbers; by default its place.
            seed: address of the random numbers.
            validate: check pixels, labels and clean logits first.
            partial: where it is kept after each attack how far this one has come, and found by a later run.

        Returns:
            x' that fools where one was found, else the one within ε with the highest margin; `extra["broken_by"]`: the
            place of the attack that broke the sample, -1 where none did or where x itself is wrong.

        Raises:
            AttackError: inputs or outputs the attacks cannot be honest about.
        """
        check_shapes(inputs, labels, keys=keys)
        with torch.inference_mode(False):
            clean, truth = normal_tensor(inputs), normal_tensor(labels).long()
            keys = default_keys(clean) if keys is None else normal_tensor(keys).to(clean.device)
            everything = torch.arange(len(clean), device=clean.device)
            looks = [self._look(model, clean[at], truth[at], seed, validate) for at in self._pieces(everything)]
            worth, fooled = (torch.cat([look[place] for look in looks]) for place in (0, 1))
            begun, point = worth.clone(), clean.clone()
            broken_by = torch.full_like(truth, -1)
            notes: dict[str, None] = {}
            done, kept = 0, None if partial is None else partial.load()
            if kept is not None:
                point, worth, fooled, broken_by = (kept[key].to(clean.device) for key in _KEPT)
                done, notes = int(kept["done"]), dict.fromkeys(unpack_notes(kept["notes"]))
            for place, (name, attack) in enumerate(self.attacks.items()):
                if place < done:
                    continue
                at = address(seed, f"cascade/{name}")
                within = bool(attack.describe().get("minimum_norm"))
                for rows in self._pieces(torch.nonzero(~fooled).flatten()):
                    if not len(rows):
                        continue
                    with keys_below(f"attack.attacks.{name}"):
                        found = attack.run(model, clean[rows], truth[rows], keys=keys[rows], seed=at, validate=False)
                    notes |= dict.fromkeys(found.notes)
                    near = self.threat.distance(found.adversarial, clean[rows]) <= self.threat.radius
                    counts = near if within else torch.ones_like(near)
                    value, _ = self._look(model, found.adversarial, truth[rows], seed, False)
                    broken = found.fooled & counts
                    better = broken | (counts & higher(value, worth[rows]))
                    point[rows] = torch.where(per_sample(better, point), found.adversarial, point[rows])
                    worth[rows] = torch.where(better, value, worth[rows])
                    broken_by[rows] = torch.where(broken, place, broken_by[rows])
                    fooled[rows] = broken
                log.info("cascade  %s  %d of %d stand", name, int((~fooled).sum()), len(fooled))
                if partial is not None:
                    values = dict(zip(_KEPT, (point, worth, fooled, broken_by), strict=True))
                    partial.save({**values, "done": torch.tensor(place + 1), "notes": pack_notes(notes)})
            return AttackResult(
                adversarial=point,
                goal_start=begun,
                goal_end=worth,
                fooled=fooled,
                extra={"broken_by": broken_by},
                notes=tuple(notes),
            )

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files; `attacks` in the order `broken_by` counts in."""
        return {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "batch_size": self.batch_size,
            "attacks": {name: attack.describe() for name, attack in self.attacks.items()},
            "broken_by": list(self.attacks),
        }

    def _pieces(self, rows: Tensor) -> Sequence[Tensor]:
        # an empty set is one empty piece: its outputs still have a shape and a type
        return torch.split(rows, self.batch_size)

    def _look(self, model: Model, points: Tensor, labels: Tensor, seed: int, validate: bool) -> tuple[Tensor, Tensor]:
        """The margin [B], and whether the model is wrong, [B] bool."""
        with prepared(model, points, labels, keys=None, seed=seed, threat=self.threat, validate=validate) as (
            samples,
            logits,
        ):
            return margin(logits, samples.labels), is_wrong(logits, samples.labels)
