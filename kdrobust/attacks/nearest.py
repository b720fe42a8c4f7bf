"""Minimum-norm attacks: what they share is how they look for the nearest adversarial example."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, is_wrong
from kdrobust.attacks.goals import margin
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.samples import EvaluationAttack, Samples, prepared
from kdrobust.attacks.threat import Threat, per_sample


@dataclass(kw_only=True)
class Nearest:
    """The nearest adversarial example to each sample so far.

    Attributes:
        samples: the samples.
        threat: its norm is the one distances are in.
        point: the nearest, at first x itself, [B, ...].
        distance: how far it is, infinite where there is none, [B].
    """

    samples: Samples
    threat: Threat
    point: Tensor
    distance: Tensor

    @classmethod
    def none_yet(cls, samples: Samples, threat: Threat) -> Nearest:
        """Nothing found."""
        far = samples.inputs.new_full((len(samples),), float("inf"))
        return cls(samples=samples, threat=threat, point=samples.inputs.clone(), distance=far)

    def consider(self, point: Tensor, logits: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take points that fool and are nearer.

        Args:
            point: one a row, [b, ...].
            logits: the model's outputs there, [b, K].
            rows: places of the samples they belong to; None: all.

        Returns:
            Whether each fools, [b] bool, and how far it is from its x, [b].
        """
        samples = self.samples if rows is None else self.samples.rows(rows)
        known, kept = (self.distance, self.point) if rows is None else (self.distance[rows], self.point[rows])
        wrong = is_wrong(logits, samples.labels)
        away = self.threat.distance(point, samples.inputs)
        nearer = wrong & (away < known)
        known, kept = torch.where(nearer, away, known), torch.where(per_sample(nearer, point), point, kept)
        if rows is None:
            self.distance, self.point = known, kept
        else:
            self.distance[rows], self.point[rows] = known, kept
        return wrong, away


class MinimumNorm(EvaluationAttack):
    """An attack that looks for the nearest adversarial example instead of staying within ε.

    A sample already wrong without attack is its own answer, at distance 0. Where nothing was found x comes back, not
    fooled. `fooled` means: at some distance; whether that is within ε is for the caller to say.

    Args:
        threat: norm and pixel range; its ε is the radius an evaluation judges by.
    """

    def __init__(self, *, threat: Threat) -> None:
        self.threat = threat

    def run(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
        validate: bool = True,
    ) -> AttackResult:
        """Attack a batch. The goal reported is the Carlini-Wagner margin. `extra["distance"]`: ‖x' - x‖, NaN if none.

        Args:
            model: inputs to logits.
            inputs: clean x in the threat's bounds, [B, ...] floating.
            labels: true classes, [B] integers.
            keys: [B] integers that address each sample's random numbers; by default its place in the batch.
            seed: address of the random numbers.
            validate: check pixels, labels and clean logits first.

        Raises:
            AttackError: inputs or outputs the attack cannot be honest about.
        """
        with prepared(model, inputs, labels, keys=keys, seed=seed, threat=self.threat, validate=validate) as (
            samples,
            logits,
        ):
            begun = margin(logits, samples.labels)
            point, away = samples.inputs.clone(), torch.zeros_like(begun, dtype=samples.inputs.dtype)
            fooled = is_wrong(logits, samples.labels)
            rows = torch.nonzero(~fooled).flatten()
            ended = begun
            if len(rows):
                nearest = Nearest.none_yet(samples.rows(rows), self.threat)
                self._search(nearest, logits[rows], seed=seed)
                found = nearest.distance.isfinite()
                point[rows], fooled[rows] = nearest.point, found
                away[rows] = torch.where(found, nearest.distance, torch.nan)
                with torch.no_grad():
                    answers = nearest.samples.exact(nearest.point)
                    ended = begun.index_copy(0, rows, margin(answers, samples.labels[rows]))
            shown = samples.answer(point)
            if shown is not point:
                away = torch.where(away.isnan(), away, self.threat.distance(shown, samples.inputs))
            return AttackResult(
                adversarial=shown, goal_start=begun, goal_end=ended, fooled=fooled, extra={"distance": away}
            )

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        return {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "minimum_norm": True,
            **self._settings(),
        }

    @abstractmethod
    def _search(self, nearest: Nearest, logits: Tensor, *, seed: int) -> None:
        """Fill `nearest`, whose samples are all classified correctly; `logits`: on x, [B, K]."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The attack's own settings."""


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 to `end` at the last one, along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * step / max(steps - 1, 1)))
