"""The adaptive attack on a detector: fool the classifier and go unnoticed, in one loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_inputs, check_logits, check_shapes, clean_logits
from kdrobust.attacks.goals import margin
from kdrobust.attacks.half import answer, asked
from kdrobust.attacks.result import AttackResult, higher
from kdrobust.attacks.settings import choice, count, number
from kdrobust.attacks.threat import STARTS, Threat, default_keys, per_sample
from kdrobust.attacks.undisturbed import undisturbed
from kdrobust.errors import AttackError, UsageError
from kdrobust.losses.numerics import lift
from kdrobust.randomness import address

#: The extra number of a sample's result: the detector's log-odds at x'.
SCORE = "detector_score"


def log_odds(logits: Tensor) -> Tensor:
    """A detector's score, [B]: log-odds $z_1 - z_0$ of "attacked"; of its logits [B, 2]."""
    return logits[:, 1] - logits[:, 0]


class JointAttack:
    r"""Projected gradient ascent that deceives a classifier F and a detector D together.

    With the margin $m(x') = \max_{j \ne y} z_j - z_y$ of F and the log-odds $d(x')$ of D it climbs, one run a weight λ,
    $\min(m, \kappa) - \lambda d$ on logits, and in a last run one of the two at a time: m until F is wrong by κ, -d
    from there on. Per sample the answer is, of all iterates of all runs, one that fools F with the smallest d; where
    none fools F, the one of the highest margin. Knowing no threshold, one attack serves all of them.

    Args:
        threat: norm, ε and box.
        steps: steps of a run, >= 1.
        step_size: α >= 0 in pixels' units, a number or a fraction.
        weights: the λ >= 0 of the runs.
        confidence: κ >= 0, in units of logits.
        start: a random start of each run, see `Threat.random_start`.
        restarts: runs of each kind, from different starts.

    Raises:
        UsageError: a value outside its range; names the key.

    Sources: Carlini & Wagner, AISec 2017, arXiv:1705.07263 (attacking both, on logits); Bryniarski et al. 2021,
        arXiv:2106.15023 (why a sum alone may fail, one constraint at a time).
    """

    def __init__(
        self,
        *,
        threat: Threat,
        steps: int = 100,
        step_size: float | str = 2 / 255,
        weights: Sequence[float | str] = (0.1, 1.0, 10.0),
        confidence: float | str = 0.5,
        start: str = "uniform",
        restarts: int = 1,
    ) -> None:
        self.threat = threat
        self.steps = count("steps", steps, least=1)
        self.step_size = number("step_size", step_size)
        self.weights = tuple(number("weights", weight) for weight in weights)
        self.confidence = number("confidence", confidence)
        self.start = choice("start", start, STARTS)
        self.restarts = count("restarts", restarts, least=1)
        if not self.weights:
            raise UsageError("attack.weights=[]: give at least one, e.g. [0.1,1,10]")

    def run(
        self,
        classifier: Model,
        detector: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
    ) -> AttackResult:
        """Attack a batch; both models and the random generators are left as they were.

        Costs `restarts * (len(weights) + 1) * (steps + 1)` passes forward and backward of both models.

        Args:
            classifier: inputs to logits [B, K].
            detector: inputs to logits [B, 2], class 1 is "attacked".
            inputs: clean x in the threat's bounds, [B, ...] floating.
            labels: true classes, [B] integers.
            keys: [B] integers that address each sample's random start; by default its place in the batch.
            seed: address of the random starts.

        Returns:
            x', whether it fools the classifier, the margin at x and at x', and `extra["detector_score"]`, d(x').

        Raises:
            AttackError: inputs or outputs that no attack can be honest about.
        """
        check_shapes(inputs, labels, keys=keys)
        with undisturbed(classifier, detector, mode="eval", device=inputs.device, seed=seed):
            given, truth = inputs.detach().clone(), labels.detach().long()
            check_inputs(given, truth, self.threat.bounds)
            clean, radius = lift(given), float(self.threat.eps) * self.threat.unit(given)
            classifier, detector = (asked(each, given, self.threat, radius) for each in (classifier, detector))
            with torch.no_grad():
                logits, flags = clean_logits(classifier, clean), clean_logits(detector, clean)
            check_logits(logits, truth)
            if flags.shape != (len(clean), 2):
                raise AttackError(f"the detector returned shape {tuple(flags.shape)}; expected [B, 2] logits")
            begun = margin(logits, truth)
            best, value, score = clean, begun, log_odds(flags)
            for point, reached, seen in self._iterates(classifier, detector, clean, truth, keys, seed):
                fools, fooled = reached > 0, value > 0
                lower = torch.where(fools & fooled, higher(-seen, -score), higher(reached, value))
                wins = torch.where(fools == fooled, lower, fools)
                best = torch.where(per_sample(wins, point), point, best)
                value, score = torch.where(wins, reached, value), torch.where(wins, seen, score)
            best = answer(classifier, best)
        return AttackResult(adversarial=best, goal_start=begun, goal_end=value, fooled=value > 0, extra={SCORE: score})

    def changed(
        self, *, eps: float | None = None, step_size: float | None = None, steps: int | None = None
    ) -> JointAttack:
        """The same attack with another radius, step or length."""
        return JointAttack(
            threat=self.threat if eps is None else replace(self.threat, eps=eps),
            steps=self.steps if steps is None else steps,
            step_size=self.step_size if step_size is None else step_size,
            weights=self.weights,
            confidence=self.confidence,
            start=self.start,
            restarts=self.restarts,
        )

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        return {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "steps": self.steps,
            "step_size": self.step_size,
            "weights": list(self.weights),
            "confidence": self.confidence,
            "start": self.start,
            "restarts": self.restarts,
        }

    def _iterates(
        self, classifier: Model, detector: Model, clean: Tensor, truth: Tensor, keys: Tensor | None, seed: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Every point visited, with the classifier's margin and the detector's log-odds there."""
        places = default_keys(clean) if keys is None else keys
        unit = self.threat.unit(clean)
        radius, size = float(self.threat.eps) * unit, self.step_size * unit
        runs: list[float | None] = [*self.weights, None]
        for restart in range(self.restarts):
            for run, weight in enumerate(runs):
                begin = address(seed, "joint start", restart, run)
                point = self.threat.random_start(clean, self.start, places, seed=begin)
                point = self.threat.project(point, clean, radius)
                for step in range(self.steps + 1):
                    point.requires_grad_(True)
                    reached, seen = margin(classifier(point), truth), log_odds(detector(point))
                    yield point.detach(), reached.detach(), seen.detach()
                    if step == self.steps:
                        break
                    if weight is None:
                        goal = torch.where(reached < self.confidence, reached, -seen)
                    else:
                        goal = reached.clamp(max=self.confidence) - weight * seen
                    (gradient,) = torch.autograd.grad(goal.sum(), point)
                    point = self.threat.ascend(point.detach(), gradient.nan_to_num(nan=0.0), clean, size, radius)
