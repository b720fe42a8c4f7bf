"""The objective: a sum of named terms over lazily computed views. A method is the list of its terms, no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kdrobust.losses.terms import (
    LOSS_MODULES,
    SHARED,
    WEIGHT_MODULES,
    Bound,
    Number,
    ViewReference,
    ViewSource,
    bind,
    read_number,
)

ROLES = ("prediction", "knowledge")
_TERM_KEYS = ("weight", "sample_weight", "role")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One term's share of a batch's loss.

    Attributes:
        value: the unweighted batch mean (detached).
        weight: the term's weight at this epoch.
        contribution: what it added to the loss, sample weights included (detached).
    """

    value: Tensor
    weight: float
    contribution: Tensor


@dataclass(frozen=True, kw_only=True)
class ObjectiveResult:
    """A batch's loss, its named parts, and the per-sample weights a weighting gave (role to [B], detached)."""

    loss: Tensor
    parts: Mapping[str, Part]
    sample_weights: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand: `mean_i weight · sample_weight_i · loss_i`.

    Attributes:
        loss: the bound loss function, [B].
        weight: a number, or a function of the epoch.
        sample_weight: further factors per sample, or None.
        role: `prediction` or `knowledge` where a method has a weighting, else None.
    """

    loss: Bound
    weight: Number
    sample_weight: Bound | None
    role: str | None

    def references(self) -> set[ViewReference]:
        """The outputs this term reads."""
        weight = set(self.sample_weight.tensors.values()) if self.sample_weight else set()
        return set(self.loss.tensors.values()) | weight


def _read_term(spec: Any, key: str, shared: Mapping[str, Any], weighted: bool, trusted: Sequence[str]) -> Term:
    if not isinstance(spec, Mapping):
        raise ValueError(f"{key}: expected a term such as {{loss: cross_entropy, student: clean}}, got {spec!r}")
    loss = bind(spec, slot="loss", modules=LOSS_MODULES, key=key, shared=shared, reserved=_TERM_KEYS, trusted=trusted)
    factor = spec.get("sample_weight")
    sample_weight = None
    if factor is not None:
        sample_weight = bind(
            factor, slot="function", modules=WEIGHT_MODULES, key=f"{key}.sample_weight", trusted=trusted
        )
    weight = read_number(spec.get("weight", 1.0), f"{key}.weight", trusted)
    if isinstance(weight, float) and weight < 0:
        raise ValueError(f"{key}.weight: {weight:g} is negative; does the method's alpha lie in [0, 1]?")
    role = spec.get("role")
    if weighted and role not in ROLES:
        raise ValueError(f"{key}.role: the method's weighting asks for prediction or knowledge, got {role!r}")
    if not weighted and role is not None:
        raise ValueError(f"{key}.role: only a method with a weighting reads it; drop it, or add one")
    return Term(loss=loss, weight=weight, sample_weight=sample_weight, role=role)


def _read(
    terms: Mapping[str, Any], weighting: Mapping[str, Any] | None, shared: Mapping[str, Any], trusted: Sequence[str]
) -> tuple[dict[str, Term], Bound | None, list[str]]:
    read: dict[str, Term] = {}
    problems: list[str] = []
    if not terms:
        problems.append("method.terms: a method needs at least one term")
    bound = None
    if weighting is not None:
        try:
            bound = bind(weighting, slot="function", modules=WEIGHT_MODULES, key="method.weighting", trusted=trusted)
        except ValueError as error:
            problems.append(str(error))
    for name, spec in terms.items():
        try:
            read[name] = _read_term(spec, f"method.terms.{name}", shared, weighting is not None, trusted)
        except ValueError as error:
            problems.append(str(error))
    return read, bound, problems


class Objective(nn.Module):
    r"""A method's loss, $\sum_k w_k \, \mathrm{mean}_i \, a_{k,i} \, \ell_{k,i}$.

    $\ell_{k,i}$ is term k's loss on sample i, $w_k$ its weight (a number or a schedule), and $a_{k,i}$ its sample
    weights: the term's own, times its role's share where the method has a weighting.

    Args:
        terms: name to mapping; see `conf/method/`. Names become log keys.
        weighting: a mapping `{function: ..., student: view, teacher: view, ...}`, or None.
        shared: method-level defaults (`temperature`, `reduction`) for every loss that takes them.
        trusted: packages outside kdrobust that functions may come from.

    Raises:
        ValueError: the first problem `method_problems` would list.
    """

    def __init__(
        self,
        *,
        terms: Mapping[str, Any],
        weighting: Mapping[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        trusted: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.terms, self.weighting, problems = _read(terms, weighting, shared or {}, trusted)
        if problems:
            raise ValueError(problems[0])

    @classmethod
    def from_method(cls, method: Mapping[str, Any], trusted: Sequence[str] = ()) -> Objective:
        """Build from a method's plain, resolved config."""
        shared = {key: method[key] for key in SHARED if key in method}
        weighting = method.get("weighting")
        return cls(terms=method.get("terms") or {}, weighting=weighting, shared=shared, trusted=trusted)

    @property
    def references(self) -> frozenset[ViewReference]:
        """Every model output the method reads; what is not here is never computed."""
        active = [term for term in self.terms.values() if term.weight != 0.0]
        read = set().union(*(term.references() for term in active))
        if self.weighting is not None:
            read |= set(self.weighting.tensors.values())
        return frozenset(read)

    @property
    def teachers(self) -> frozenset[str]:
        """Names of the teachers the method reads."""
        return frozenset(reference.model for reference in self.references) - {"student"}

    @property
    def needs_attack(self) -> bool:
        """Whether any term looks at an attacked input."""
        return any(reference.view != "clean" for reference in self.references)

    def describe(self) -> dict[str, Any]:
        """Every term's resolved weight and options as plain values, for result files (schedules at epoch 0)."""

        def plain(bound: Bound) -> dict[str, Any]:
            options = {name: value(0.0) if callable(value) else value for name, value in bound.options.items()}
            return {**{name: str(reference) for name, reference in bound.tensors.items()}, **options}

        described: dict[str, Any] = {}
        for name, term in self.terms.items():
            weight = term.weight(0.0) if callable(term.weight) else term.weight
            described[name] = {"loss": term.loss.function.__name__, "weight": weight, **plain(term.loss)}
        if self.weighting is not None:
            described["weighting"] = {"function": self.weighting.function.__name__, **plain(self.weighting)}
        return described

    def forward(self, views: ViewSource, epoch: float = 0.0) -> ObjectiveResult:
        """The loss of one batch.

        Args:
            views: where logits and labels come from.
            epoch: the epoch, fractions allowed; schedules read it.
        """
        roles: dict[str, Tensor] = {}
        if self.weighting is not None:
            roles = dict(zip(ROLES, self.weighting(views, epoch), strict=True))
        contributions: list[Tensor] = []
        parts: dict[str, Part] = {}
        for name, term in self.terms.items():
            weight = term.weight(epoch) if callable(term.weight) else term.weight
            if weight == 0.0:
                continue
            per_sample: Tensor = term.loss(views, epoch)
            value = per_sample.mean()
            if term.sample_weight is not None:
                per_sample = per_sample * term.sample_weight(views, epoch)
            if term.role is not None:
                per_sample = per_sample * roles[term.role]
            contribution = weight * per_sample.mean()
            contributions.append(contribution)
            parts[name] = Part(value=value.detach(), weight=weight, contribution=contribution.detach())
        if not contributions:
            raise ValueError("method.terms: every term's weight is 0, so there is nothing to learn from")
        loss = contributions[0]
        for contribution in contributions[1:]:
            loss = loss + contribution
        weights = {role: value.detach() for role, value in roles.items()}
        return ObjectiveResult(loss=loss, parts=parts, sample_weights=weights)


def method_problems(method: Mapping[str, Any], trusted: Sequence[str] = ()) -> list[str]:
    """Everything wrong with a method's plain, resolved config, one line each; empty if it can be built."""
    shared = {key: method[key] for key in SHARED if key in method}
    terms, _, problems = _read(method.get("terms") or {}, method.get("weighting"), shared, trusted)
    if problems:
        return problems
    for key in shared:
        if not any(key in term.loss.options for term in terms.values()):
            problems.append(f"method.{key}: none of this method's losses takes it")
    constant = [term.weight for term in terms.values() if isinstance(term.weight, float)]
    if len(constant) == len(terms) and not any(constant):
        problems.append("method.terms: every term's weight is 0, so there is nothing to learn from")
    return problems
