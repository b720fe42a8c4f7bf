"""The objective: a sum of named terms over lazily computed views. A method is the list of its terms, no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.losses.adapters import Adapter
from kdrobust.losses.method import ROLES, Method, Term, plain_number, read_method
from kdrobust.losses.references import FEATURES, ViewReference, ViewSource
from kdrobust.losses.terms import Bound, dry_run


@dataclass(frozen=True, kw_only=True)
class Part:
    """One term's share of a batch's loss.

    Attributes:
        value: the unweighted batch mean (detached).
        weight: the term's weight on this batch, a balance's included (detached where it is a tensor).
        contribution: what it added to the loss, sample weights included (detached).
    """

    value: Tensor
    weight: float | Tensor
    contribution: Tensor


@dataclass(frozen=True, kw_only=True)
class ObjectiveResult:
    """A batch's loss, its named parts, and the per-sample weights a weighting gave (role to [B], detached)."""

    loss: Tensor
    parts: Mapping[str, Part]
    sample_weights: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    r"""A method's loss, $\sum_k w_k \, \mathrm{mean}_i \, a_{k,i} \, \ell_{k,i}$.

    $\ell_{k,i}$ is term k's loss on sample i, $w_k$ its weight (a number, a schedule, or what a balance of the terms'
    values makes of it), and $a_{k,i}$ its sample weights: the term's own, the method's, times its role's share where
    the method has a weighting. A loss that relates samples to each other has one value a batch; a role's share is then
    the batch's mean. What carries state (class weights, temperatures, balances, adapters) is a submodule of this one,
    so that it is saved with the run.

    Args:
        method: a method's plain, resolved config; see `conf/method/`. The names of its terms become log keys.
        trusted: packages outside kdrobust that functions may come from.

    Raises:
        ValueError: the first problem `method_problems` would list.
    """

    def __init__(self, method: Mapping[str, Any], trusted: Sequence[str] = ()) -> None:
        super().__init__()
        self.method: Method = read_method(method, trusted)
        if self.method.problems:
            raise ValueError(self.method.problems[0])
        self.state = nn.ModuleDict(
            {
                name.replace(".", "/"): bound.function
                for name, bound in self.method.bound().items()
                if isinstance(bound.function, nn.Module)
            }
        )
        self.adapters = nn.ModuleDict()
        if self.method.balance is not None:
            self.state["balance"] = self.method.balance.module

    @classmethod
    def from_method(cls, method: Mapping[str, Any], trusted: Sequence[str] = ()) -> Objective:
        """Build from a method's plain, resolved config."""
        return cls(method, trusted)

    @property
    def terms(self) -> Mapping[str, Term]:
        """The terms by name."""
        return self.method.terms

    @property
    def weighting(self) -> Bound | None:
        """What shares the say between labels and teacher, if anything does."""
        return self.method.weighting

    @cached_property
    def references(self) -> frozenset[ViewReference]:
        """Every model output the method reads; what is not here is never computed."""
        read: set[ViewReference] = set()
        for bound in self.method.bound(active=True).values():
            read |= set(bound.tensors.values())
        return frozenset(read)

    @property
    def partners(self) -> tuple[str, ...]:
        """Models that are trained beside the student."""
        return self.method.partners

    @cached_property
    def teachers(self) -> frozenset[str]:
        """Names of the frozen teachers the method reads."""
        return frozenset(reference.model for reference in self.references) - {"student", *self.partners}

    @cached_property
    def main_teacher(self) -> str:
        """The teacher that diagnostics are taken against: the first one a term names, or ""."""
        for bound in self.method.bound(active=True).values():
            for reference in bound.tensors.values():
                if reference.model != "student":
                    return reference.model
        return ""

    @property
    def attack_model(self) -> str:
        """The model whose answers an attack on a teacher's goal climbs away from."""
        return self.method.attack_model

    @cached_property
    def needs_attack(self) -> bool:
        """Whether any term looks at an attacked input, or at how long one was withstood."""
        attacked = any(reference.view != "clean" for reference in self.references)
        return attacked or self.needs_survival

    @cached_property
    def needs_survival(self) -> bool:
        """Whether a weight counts the steps of the inner attack that a sample withstood."""
        return any("survived" in bound.automatic for bound in self.method.bound(active=True).values())

    @cached_property
    def taps(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Module paths to collect, by (model, view)."""
        found: dict[tuple[str, str], set[str]] = {}
        for reference in self.references:
            if reference.kind == FEATURES:
                found.setdefault((reference.model, reference.view), set()).add(reference.path)
        return {where: tuple(sorted(paths)) for where, paths in found.items()}

    @property
    def tap_keys(self) -> dict[tuple[str, str], str]:
        """Where the config names a tapped module, by (model, module path)."""
        return {
            (reference.model, reference.path): f"{bound.key}.{parameter}"
            for bound in self.method.bound().values()
            for parameter, reference in bound.tensors.items()
            if reference.kind == FEATURES
        }

    def attack_target(self, views: ViewSource) -> Tensor:
        """The logits that an attack on a teacher's goal climbs away from: T(x), tempered where a term tempers it."""
        logits = views.logits(self.attack_model, "clean")
        temper = self.method.temper
        return temper(logits, views.labels) if temper is not None else logits

    def prepare(self, *, classes: int, shapes: Mapping[tuple[str, str], tuple[int, ...]] | None = None) -> None:
        """Make what depends on the data and the models: class-sized state, and adapters between tapped features.

        Args:
            classes: K.
            shapes: (model, module path) to the shape of one sample's features.

        Raises:
            ValueError: features that a loss cannot compare; names the term and both shapes.
        """
        for module in self.state.values():
            prepare: Any = getattr(module, "prepare", None)
            if prepare is not None:
                prepare(classes=classes)
        for name, bound in self.method.bound().items():
            tapped = {
                parameter: (shapes or {})[reference.model, reference.path]
                for parameter, reference in bound.tensors.items()
                if reference.kind == FEATURES
            }
            if bound.adapter:
                try:
                    self.adapters[name] = Adapter.between(tapped["student"], tapped["teacher"])
                except ValueError as error:
                    raise ValueError(f"{bound.key}: {error}") from None
            elif tapped:
                self._try(bound, tapped)

    @staticmethod
    def _try(bound: Bound, tapped: Mapping[str, tuple[int, ...]]) -> None:
        try:
            dry_run(bound, tapped)
        except ValueError as error:
            shown = ", ".join(f"{bound.tensors[name]} {list(shape)}" for name, shape in tapped.items())
            raise ValueError(f"{error}; features: {shown}; choose other modules, or set adapter=conv") from None

    def describe(self) -> dict[str, Any]:
        """Every term's resolved weight and options as plain values, for result files."""
        return self.method.describe()

    def end_epoch(self) -> None:
        """Let what carries statistics over an epoch take its step."""
        for module in self.state.values():
            end_epoch: Any = getattr(module, "end_epoch", None)
            if end_epoch is not None:
                end_epoch()

    def forward(self, views: ViewSource, epoch: float = 0.0) -> ObjectiveResult:
        """The loss of one batch.

        Args:
            views: where logits, features and labels come from.
            epoch: the epoch, fractions allowed; schedules read it.
        """
        roles: dict[str, Tensor] = {}
        if self.weighting is not None:
            roles = dict(zip(ROLES, self.weighting(views, epoch), strict=True))
        common = self.method.sample_weight(views, epoch) if self.method.sample_weight is not None else None
        values: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        weights: dict[str, float | Tensor] = {}
        for name, term in self.terms.items():
            weight = plain_number(term.weight, epoch)
            if weight == 0.0:
                continue
            loss = term.loss(views, epoch, self._adapter(name))
            values[name], means[name], weights[name] = (
                loss.mean(),
                self._weighed(term, loss, roles, common, views, epoch),
                weight,
            )
        if not means:
            raise ValueError("method.terms: every term's weight is 0, so there is nothing to learn from")
        if self.method.balance is not None:
            factors = self.method.balance({name: means[name].detach() for name in self.method.balance.terms}, epoch)
            weights |= {name: weights[name] * factor.to(means[name].dtype) for name, factor in factors.items()}
        contributions = {name: weights[name] * mean for name, mean in means.items()}
        parts = {
            name: Part(value=values[name].detach(), weight=weights[name], contribution=contributions[name].detach())
            for name in contributions
        }
        total = torch.stack(list(contributions.values())).sum()
        shares = {role: value.detach() for role, value in roles.items()}
        return ObjectiveResult(loss=total, parts=parts, sample_weights=shares)

    def _adapter(self, name: str) -> nn.Module | None:
        return self.adapters[name] if name in self.adapters else None  # noqa: SIM401 - a ModuleDict has no get

    @staticmethod
    def _weighed(
        term: Term,
        loss: Tensor,
        roles: Mapping[str, Tensor],
        common: Tensor | None,
        views: ViewSource,
        epoch: float,
    ) -> Tensor:
        factors = [] if common is None else [common]
        if term.sample_weight is not None:
            factors.append(term.sample_weight(views, epoch))
        if term.role is not None:
            factors.append(roles[term.role])
        for factor in factors:
            loss = loss * (factor if loss.dim() else factor.mean())
        return loss.mean()


def method_problems(method: Mapping[str, Any], trusted: Sequence[str] = ()) -> list[str]:
    """Everything wrong with a method's plain, resolved config, one line each; empty if it can be built."""
    return read_method(method, trusted).problems
