"""What the evaluation's attacks share: samples ready to be attacked, and the best answer to each so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, check_inputs, check_logits, check_shapes, clean_logits, is_wrong
from kdrobust.attacks.goals import Climb, Target, normal_tensor
from kdrobust.attacks.half import answer, asked, of_rows
from kdrobust.attacks.kernels import climbed, confirmed
from kdrobust.attacks.result import AttackResult, improve
from kdrobust.attacks.threat import Threat, default_keys
from kdrobust.attacks.undisturbed import undisturbed
from kdrobust.losses.numerics import lift


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples under attack.

    Attributes:
        model: inputs to logits, in eval mode: the form that is climbed.
        exact: the model whose verdict counts.
        inputs: clean x, [B, ...] in at least float32.
        labels: [B] int64.
        keys: [B] int64, each sample's address.
        targets: [B] int64, wanted classes; None where there are none.
    """

    model: Model
    exact: Model
    inputs: Tensor
    labels: Tensor
    keys: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, rows: Tensor) -> Samples:
        """Some of them, by place or by mask."""
        model = of_rows(self.model, rows)
        return Samples(
            model=model,
            exact=model if self.exact is self.model else of_rows(self.exact, rows),
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            keys=self.keys[rows],
            targets=None if self.targets is None else self.targets[rows],
        )

    def aimed(self, targets: Tensor | None) -> Samples:
        """The same, with these wanted classes."""
        return replace(self, targets=targets)

    def wrong(self, points: Tensor, logits: Tensor) -> Tensor:
        """Whether the model is wrong at some points, [B] bool; where a fast form says so, the exact model confirms.

        Args:
            points: one a sample, [B, ...].
            logits: what the form that is climbed answers there, [B, K].
        """

        def judge(logits: Tensor, rows: Tensor) -> Tensor:
            return is_wrong(logits, self.labels[rows])

        return confirmed(self.model, self.exact, points, logits, judge)

    def answer(self, points: Tensor) -> Tensor:
        """Points as an attack gives them back: in the type of the caller's inputs, [B, ...]."""
        return answer(self.exact, points)

    def bind(self, goal: Callable[[Target], Climb]) -> Climb:
        """A goal, bound to these samples."""
        return goal(Target(model=self.model, inputs=self.inputs, labels=self.labels, targets=self.targets))


@contextmanager
def prepared(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    keys: Tensor | None,
    seed: int,
    threat: Threat,
    validate: bool,
    initial: Tensor | None = None,
    targets: Tensor | None = None,
    precision: str = "exact",
) -> Iterator[tuple[Samples, Tensor]]:
    """Checked samples and the model's logits on them; what an attack may not change is put back at the end.

    Args:
        model: inputs to logits; an `nn.Module` answers in eval mode meanwhile.
        inputs: clean x, [B, ...] floating.
        labels: [B] integers.
        keys: [B] integers; None: each sample's place in the batch.
        seed: address of the model's own noise.
        threat: ball and box.
        validate: check pixels, labels and logits too, not just shapes.
        initial: where the attack shall start, to be checked for its shape.
        targets: wanted classes, [B] integers.
        precision: which form of the model is climbed, see `kdrobust.attacks.kernels.climbed`.

    Raises:
        AttackError: inputs or outputs the attack cannot be honest about.
    """
    check_shapes(inputs, labels, keys=keys, initial=initial, targets=targets)
    with undisturbed(model, None, mode="eval", device=inputs.device, seed=seed):
        given = normal_tensor(inputs)
        radius = float(threat.eps) * threat.unit(given)
        exact = asked(model, given, threat, radius)
        samples = Samples(
            model=exact,
            exact=exact,
            inputs=lift(given),
            labels=normal_tensor(labels).long(),
            keys=default_keys(inputs) if keys is None else normal_tensor(keys).to(inputs.device),
            targets=None if targets is None else normal_tensor(targets).long(),
        )
        if validate:
            check_inputs(given, samples.labels, threat.box)
        logits = clean_logits(exact, samples.inputs)
        if validate:
            check_logits(logits, samples.labels)
        yield replace(samples, model=climbed(exact, precision, samples.inputs)), logits


class EvaluationAttack(ABC):
    """An attack for measuring: it may read values on the host and look at each sample as often as it likes."""

    @abstractmethod
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
        """Attack a batch."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        keys: Tensor | None = None,
        seed: int = 0,
        validate: bool = True,
    ) -> Tensor:
        """As `run`, but x' alone, [B, ...]."""
        return self.run(model, inputs, labels, keys=keys, seed=seed, validate=validate).adversarial


@dataclass(kw_only=True)
class Findings:
    """The best answer to each sample so far; at first the clean x, where the model may be wrong already.

    Attributes:
        samples: all of them.
        found: the answers.
        fooled_clean: [B] bool, wrong without attack: never attacked.
    """

    samples: Samples
    found: AttackResult
    fooled_clean: Tensor

    @classmethod
    def clean(cls, samples: Samples, logits: Tensor, value: Tensor) -> Findings:
        """What is known before the attack.

        Args:
            samples: all of them.
            logits: on x, [B, K].
            value: what is climbed, at x, [B].
        """
        fooled = is_wrong(logits, samples.labels)
        # NaN: any answer of the attack is better than x where x does not fool
        worth = torch.where(fooled, value, torch.nan)
        found = AttackResult(adversarial=samples.inputs.clone(), goal_start=worth, goal_end=worth, fooled=fooled)
        return cls(samples=samples, found=found, fooled_clean=fooled)

    def todo(self, *, compact: bool) -> Tensor:
        """Places of the samples to attack: those still standing, or all that were right at first."""
        return torch.nonzero(~(self.found.fooled if compact else self.fooled_clean)).flatten()

    def put(self, rows: Tensor, result: AttackResult) -> None:
        """Take an answer to some samples where it is better.

        Args:
            rows: their places.
            result: the answers, one a row.
        """
        self.found = improve(self.found, rows, result)

    def result(self, extra: Mapping[str, Tensor] | None = None, notes: tuple[str, ...] = ()) -> AttackResult:
        """The answers, with further numbers a sample."""
        adversarial = self.samples.answer(self.found.adversarial)
        return replace(self.found, adversarial=adversarial, extra=dict(extra or {}), notes=notes)
