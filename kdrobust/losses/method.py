"""A method's config, read: its terms, what weighs them, who learns beside the student, what the attack looks at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from kdrobust.losses.lookup import Number, Schedule, describe_value, read_number, unknown
from kdrobust.losses.references import ViewReference
from kdrobust.losses.terms import BALANCE_MODULES, LOSS_MODULES, SHARED, WEIGHT_MODULES, Bound, bind, find_balance

ROLES = ("prediction", "knowledge")
_TERM_KEYS = ("weight", "sample_weight", "role")


def plain_number(value: Number, epoch: float) -> float:
    """A number, or a schedule's value at an epoch."""
    return value(epoch) if isinstance(value, Schedule) else value


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand: `mean_i weight · sample_weight_i · loss_i`.

    Attributes:
        loss: the bound loss function, [B], or [] where it relates samples to each other.
        weight: a number, or a function of the epoch.
        sample_weight: further factors per sample, or None.
        role: `prediction` or `knowledge` of what a method's weighting shares out, else None.
    """

    loss: Bound
    weight: Number
    sample_weight: Bound | None
    role: str | None

    def references(self) -> set[ViewReference]:
        """The outputs this term reads."""
        weight = set(self.sample_weight.tensors.values()) if self.sample_weight else set()
        return set(self.loss.tensors.values()) | weight


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What sets some terms' weights from their values, batch by batch.

    Attributes:
        module: the state.
        terms: whose weights.
        options: its numbers; schedules among them.
        made_with: what its constructor was called with.
        name: what the YAML called it.
    """

    module: nn.Module
    terms: tuple[str, ...]
    options: Mapping[str, Number]
    made_with: Mapping[str, Any]
    name: str

    def __call__(self, values: Mapping[str, Tensor], epoch: float) -> Mapping[str, Tensor]:
        """Weights by term."""
        options = {name: plain_number(value, epoch) for name, value in self.options.items()}
        weights: Mapping[str, Tensor] = self.module(dict(values), **options)
        return weights

    def describe(self) -> dict[str, Any]:
        """Plain values for result files."""
        options = {name: describe_value(value) for name, value in {**self.made_with, **self.options}.items()}
        return {"function": self.name, **options}


@dataclass(kw_only=True)
class Method:
    """A method, read.

    Attributes:
        terms: by name.
        weighting: shares the say between labels and teacher by sample, or None.
        sample_weight: weighs every term's samples, or None.
        balance: sets terms' weights, or None.
        partners: models trained beside the student.
        attack_model: whose answers an attack on a teacher's goal climbs away from.
        temper: what is done to those answers first, `(logits, labels) -> logits`, or None.
        problems: what is wrong, one line each; the rest is incomplete if there is anything.
    """

    terms: dict[str, Term] = field(default_factory=dict)
    weighting: Bound | None = None
    sample_weight: Bound | None = None
    balance: Balance | None = None
    partners: tuple[str, ...] = ()
    attack_model: str = "teacher"
    temper: Callable[[Tensor, Tensor], Tensor] | None = None
    problems: list[str] = field(default_factory=list)

    def bound(self, *, active: bool = False) -> dict[str, Bound]:
        """Everything that reads outputs, by name; `active` leaves out terms whose weight is 0 for good."""
        found: dict[str, Bound] = {}
        for name, term in self.terms.items():
            if active and term.weight == 0.0:
                continue
            found[name] = term.loss
            if term.sample_weight is not None:
                found[f"{name}.sample_weight"] = term.sample_weight
        if self.sample_weight is not None:
            found["sample_weight"] = self.sample_weight
        if self.weighting is not None:
            found["weighting"] = self.weighting
        return found

    def describe(self) -> dict[str, Any]:
        """Plain values for result files."""
        described: dict[str, Any] = {}
        for name, term in self.terms.items():
            described[name] = {
                "loss": term.loss.name,
                "weight": describe_value(term.weight),
                **term.loss.describe(),
            }
            if term.sample_weight is not None:
                described[name]["sample_weight"] = _named(term.sample_weight)
        for name, bound in (("weighting", self.weighting), ("sample_weight", self.sample_weight)):
            if bound is not None:
                described[name] = _named(bound)
        if self.balance is not None:
            described["balance"] = self.balance.describe()
        return described


def _named(bound: Bound) -> dict[str, Any]:
    return {"function": bound.name, **bound.describe()}


def _read_term(spec: Any, key: str, shared: Mapping[str, Any], weighted: bool, trusted: Sequence[str]) -> Term:
    if not isinstance(spec, Mapping):
        raise ValueError(f"{key}: expected a term such as {{loss: cross_entropy, student: clean}}, got {spec!r}")
    loss = bind(spec, slot="loss", modules=LOSS_MODULES, key=key, shared=shared, reserved=_TERM_KEYS, trusted=trusted)
    factor = spec.get("sample_weight")
    sample_weight = None
    if factor is not None:
        sample_weight = _bind_weight(factor, f"{key}.sample_weight", trusted)
    weight = read_number(spec.get("weight", 1.0), f"{key}.weight", trusted)
    if isinstance(weight, float) and weight < 0:
        raise ValueError(
            f"{key}.weight: {weight:g} is negative; set what it is computed from to at least 0 (alpha: 0 to 1)"
        )
    role = spec.get("role")
    if weighted and role is not None and role not in ROLES:
        raise ValueError(f"{key}.role: the method's weighting asks for prediction or knowledge, got {role!r}")
    if not weighted and role is not None:
        raise ValueError(f"{key}.role: only a method with a weighting reads it; drop it, or add one")
    return Term(loss=loss, weight=weight, sample_weight=sample_weight, role=role)


def _bind_weight(spec: Any, key: str, trusted: Sequence[str]) -> Bound:
    if not isinstance(spec, Mapping):
        raise ValueError(f"{key}: expected a mapping such as {{function: doubt, student: clean}}, got {spec!r}")
    alpha = spec.get("alpha")
    if isinstance(alpha, int | float) and not isinstance(alpha, bool) and not 0 <= alpha <= 1:
        # 1 - alpha is the other loss's weight
        raise ValueError(f"{key}.alpha: {alpha:g} does not lie in [0, 1]; set method.alpha to a number that does")
    return bind(spec, slot="function", modules=WEIGHT_MODULES, key=key, trusted=trusted)


class _Reader:
    """Collects a method's problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def attempt(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except ValueError as error:
            self.problems.append(str(error))
            return None


def _read_partners(value: Any) -> tuple[str, ...]:
    names = [] if value is None else [value] if isinstance(value, str) else list(value)
    if "student" in names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ValueError(f"method.partners: expected names other than student, such as [peer], got {value!r}")
    return tuple(names)


def _read_balance(spec: Any, terms: Mapping[str, Term], trusted: Sequence[str]) -> Balance | None:
    if spec is None:
        return None
    key = "method.balance"
    if not isinstance(spec, Mapping):
        raise ValueError(f"{key}: expected a mapping {{function: ..., terms: [...]}}, got {spec!r}")
    module, made_with, options = find_balance(spec, BALANCE_MODULES, key, trusted)
    names = tuple(spec.get("terms") or ())
    for name in names:
        if name not in terms:
            raise ValueError(f"{key}.terms: {unknown('term', name, list(terms))}")
        if terms[name].weight == 0.0:
            raise ValueError(f"{key}.terms: {name} has weight 0; leave it out")
    return Balance(module=module, terms=names, options=options, made_with=made_with, name=str(spec["function"]))


def _read_target(method: Mapping[str, Any], read: Method) -> None:
    named = method.get("attack_target")
    if named is None:
        return
    models = {reference.model for bound in read.bound().values() for reference in bound.tensors.values()} - {"student"}
    term = read.terms.get(str(named))
    temper = getattr(term.loss.function, "target", None) if term is not None else None
    if term is not None and callable(temper):
        read.temper = temper
        read.attack_model = term.loss.tensors["teacher"].model
    elif str(named) in {*models, *read.partners}:
        read.attack_model = str(named)
    else:
        tempering = [name for name, each in read.terms.items() if hasattr(each.loss.function, "target")]
        known = sorted({*models, *read.partners, *tempering})
        raise ValueError(f"method.attack_target: {unknown('teacher or tempering term', named, known)}")


def read_method(method: Mapping[str, Any], trusted: Sequence[str] = ()) -> Method:
    """Read a method's plain, resolved config; what is wrong stands in `problems`."""
    shared = {key: method[key] for key in SHARED if method.get(key) is not None}
    reader, read = _Reader(), Method()
    terms = method.get("terms") or {}
    if not isinstance(terms, Mapping):
        reader.problems.append(f"method.terms: expected a mapping of terms by name, got {terms!r}")
        terms = {}
    elif not terms:
        reader.problems.append("method.terms: a method needs at least one term")
    weighting, common = method.get("weighting"), method.get("sample_weight")
    if weighting is not None:
        read.weighting = reader.attempt(lambda: _bind_weight(weighting, "method.weighting", trusted))
    if common is not None:
        read.sample_weight = reader.attempt(lambda: _bind_weight(common, "method.sample_weight", trusted))
    read.partners = reader.attempt(lambda: _read_partners(method.get("partners"))) or ()
    for name, spec in terms.items():
        key, weighted = f"method.terms.{name}", weighting is not None
        term = reader.attempt(partial(_read_term, spec, key, shared, weighted, trusted))
        if term is not None:
            read.terms[name] = term
    if weighting is not None:
        reader.problems += _without_role(read.terms)
    if not reader.problems:
        read.balance = reader.attempt(lambda: _read_balance(method.get("balance"), read.terms, trusted))
        reader.attempt(lambda: _read_target(method, read))
        reader.problems += _idle(shared, read)
    read.problems = reader.problems
    return read


def _without_role(terms: Mapping[str, Term]) -> list[str]:
    """Terms that a weighting passes by although nothing else has the role it asks for; one line each.

    Beside terms of both roles another one may stand for itself, such as what a wrap or a feature loss adds.
    """
    given = {term.role for term in terms.values()}
    if set(ROLES) <= given:
        return []
    return [
        f"method.terms.{name}.role: the method's weighting asks for prediction or knowledge, got None"
        for name, term in terms.items()
        if term.role is None
    ]


def _takes(loss: Bound, key: str) -> bool:
    if isinstance(loss.function, nn.Module) and key in inspect.signature(type(loss.function)).parameters:
        return True
    return key in loss.options or (key == "logits_transform" and loss.transform is not None)


def _idle(shared: Mapping[str, Any], read: Method) -> list[str]:
    problems = [
        f"method.{key}: none of this method's losses takes it"
        for key in shared
        if not any(_takes(term.loss, key) for term in read.terms.values())
    ]
    constant = [term.weight for term in read.terms.values() if isinstance(term.weight, float)]
    if len(constant) == len(read.terms) and not any(constant):
        problems.append("method.terms: every term's weight is 0, so there is nothing to learn from")
    read_by_terms = {reference.model for bound in read.bound().values() for reference in bound.tensors.values()}
    problems += [
        f"method.partners: no term reads {name}, so it would learn nothing"
        for name in read.partners
        if name not in read_by_terms
    ]
    return problems
