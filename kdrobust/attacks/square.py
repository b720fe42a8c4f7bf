"""The square attack: random search with square-shaped changes, no gradient asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.contract import Model, is_wrong
from kdrobust.attacks.goals import Climb, Target, describe_goal, find_goal
from kdrobust.attacks.kernels import PRECISIONS
from kdrobust.attacks.result import AttackResult, higher
from kdrobust.attacks.samples import EvaluationAttack, Findings, Samples, prepared
from kdrobust.attacks.settings import choice, count, number
from kdrobust.attacks.slope import look
from kdrobust.attacks.squares import draws_of_queries, next_l2, next_linf, start_l2, start_linf
from kdrobust.attacks.threat import Threat, per_sample
from kdrobust.errors import AttackError
from kdrobust.randomness import address

#: After how many of 10,000 queries the squares' share of the image halves.
HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
#: Queries whose random numbers are drawn together.
_BLOCK = 64


class Square(EvaluationAttack):
    """Random search: change a square, keep the change where the goal rose.

    In ℓ∞ the start is vertical stripes of ±ε and a change sets a square to ±ε a channel; in ℓ2 the start is a tiling of
    small bumps and a change moves the perturbation's length from one square into another. The squares' area is a share
    of the image that halves as the queries are spent. Of a signal [C, T] a square is a run of consecutive samples, and
    in ℓ∞ the start sets every sample to ±ε. Every sample's squares come from its own key. A sample already wrong
    without attack is not asked about.

    Args:
        threat: norm, ε and pixel range.
        queries: looks at the model a restart and sample, the start included, >= 1.
        p_init: share of the image the first squares cover, in (0, 1].
        restarts: independent runs.
        goal: what shall rise: a name of `kdrobust.attacks.goals.GOALS` that needs no teacher, or a function that binds
            to a `Target`.
        compact: let a sample go as soon as it is broken. Changes no verdict.
        precision: which form of the model is asked, see `kdrobust.attacks.kernels.climbed`; what it breaks, the exact
            model confirms.

    Raises:
        UsageError: a value outside its range; names the key.

    Source: Andriushchenko et al., ECCV 2020, arXiv:1912.00049, algorithms 1 to 3; along one axis the same search.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        queries: int = 5000,
        p_init: float | str = 0.8,
        restarts: int = 1,
        goal: str | Callable[[Target], Climb] = "margin",
        compact: bool = True,
        precision: str = "exact",
    ) -> None:
        self.threat = threat
        self.queries = count("queries", queries, least=1)
        self.p_init = number("p_init", p_init, positive=True, most=1.0)
        self.restarts = count("restarts", restarts, least=1)
        self.goal = goal
        self.compact = compact
        self.precision = choice("precision", precision, PRECISIONS)
        self._bind = find_goal(goal)

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
        """Attack a batch. `extra["queries"]`: looks at the model until it was fooled, or all of them.

        Args:
            model: inputs to logits; needs no gradient.
            inputs: clean images in the threat's bounds, [B, C, H, W] floating, or signals [B, C, T].
            labels: true classes, [B] integers.
            keys: [B] integers that address each sample's squares; by default its place in the batch.
            seed: address of the squares.
            validate: check pixels, labels and clean logits first.

        Raises:
            AttackError: inputs or outputs the attack cannot be honest about; neither images nor signals.
        """
        with prepared(
            model,
            inputs,
            labels,
            keys=keys,
            seed=seed,
            threat=self.threat,
            validate=validate,
            precision=self.precision,
        ) as (samples, logits):
            if inputs.dim() not in (3, 4):
                raise AttackError(
                    f"evaluation.attacks: the Square attack needs images [B, C, H, W] or signals [B, C, T], the inputs "
                    f"are {tuple(inputs.shape)}; leave it out (e.g. ~evaluation.attacks.square), or set "
                    "evaluation=quick"
                )
            value = samples.bind(self._bind)(samples.inputs, logits).detach()
            findings = Findings.clean(samples, logits, value)
            asked = torch.zeros(len(samples), dtype=torch.int64, device=inputs.device)
            for restart in range(self.restarts):
                rows = findings.todo(compact=self.compact)
                if not len(rows):
                    break
                pending = ~findings.found.fooled[rows]
                result, spent = self._search(samples.rows(rows), seed=address(seed, "square", restart))
                findings.put(rows, result)
                asked[rows] += torch.where(pending, spent, 0)
            return findings.result({"queries": asked})

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        return {
            "attack": type(self).__name__,
            "threat": self.threat.describe(),
            "goal": describe_goal(self.goal),
            "queries": self.queries,
            "p_init": self.p_init,
            "restarts": self.restarts,
            "compact": self.compact,
            "precision": self.precision,
        }

    def _search(self, samples: Samples, *, seed: int) -> tuple[AttackResult, Tensor]:
        """The answers, and the looks at the model each took."""
        begin, change = (start_linf, next_linf) if self.threat.norm == "linf" else (start_l2, next_l2)
        point = begin(self.threat, _images(samples.inputs), samples.keys, seed=address(seed, "start"))
        point = point.view_as(samples.inputs)
        value, logits = look(samples.model, samples.bind(self._bind), point)
        fooled = samples.wrong(point, logits)
        begun, value, spent = value, value.clone(), torch.where(fooled, 1, self.queries)
        rows, on, climb = torch.arange(len(samples), device=point.device), samples, samples.bind(self._bind)
        draws: list[Tensor] = []
        for query in range(1, self.queries):
            if self.compact and bool(fooled[rows].any()):
                stays = ~fooled[rows]
                rows, draws = rows[stays], [numbers[stays] for numbers in draws]
                on = samples.rows(rows)
                climb = on.bind(self._bind)
            if not len(rows):
                break
            if not draws:
                seeds = [address(seed, "query", number) for number in range(query, min(query + _BLOCK, self.queries))]
                draws = list(draws_of_queries(self.threat, on.inputs, on.keys, seeds=seeds).flip(0))
            now, images = point[rows], _images(on.inputs)
            proposal = change(self.threat, _images(now), images, draws.pop(), share=self.share(query)).view_as(now)
            risen, logits = look(on.model, climb, proposal)
            wrong = on.wrong(proposal, logits)
            spent[rows] = torch.where(wrong & ~fooled[rows], query + 1, spent[rows])
            # what fools is never given up for what does not
            better = (wrong & ~fooled[rows]) | ((wrong == fooled[rows]) & higher(risen, value[rows]))
            point[rows] = torch.where(per_sample(better, now), proposal, now)
            value[rows] = torch.where(better, risen, value[rows])
            fooled[rows] |= wrong
        if on.model is not on.exact and len(rows := torch.nonzero(~fooled).flatten()):
            # the exact model looks once at what the form that was asked could not break
            with torch.no_grad():
                fooled[rows] = is_wrong(samples.exact(point[rows]), samples.labels[rows])
        return AttackResult(adversarial=point, goal_start=begun, goal_end=value, fooled=fooled), spent

    def share(self, query: int) -> float:
        """Share of the image that a square of this query covers."""
        passed = query * 10_000 / self.queries
        return self.p_init / 2.0 ** sum(passed > at for at in HALVINGS)


def _images(inputs: Tensor) -> Tensor:
    """[B, C, H, W]; signals [B, C, T] as images of one row."""
    return inputs if inputs.dim() == 4 else inputs.unsqueeze(2)
