"""Which of our methods or losses answers for which name in a vector file, and what their hyper-parameters are here.

A method is computed from its own YAML, so that what is proved is what a user runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdrobust.config import compose_group
from kdrobust.conformance import special
from kdrobust.conformance.cases import VARIANT, Case
from kdrobust.conformance.outputs import GivenOutputs
from kdrobust.losses import Objective, ObjectiveResult
from kdrobust.losses.lookup import public_functions, unknown
from kdrobust.losses.terms import LOSS_MODULES, bind

#: Words of the vector files that describe a convention and set nothing.
_REMARKS = ("alpha_weighs",)
#: A point of training at which every warm-up is over, in units of its length.
_END = 1.0
_ZSCORE = "+logit_standardization"

Compute = Callable[[Case], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a case is computed.

    Attributes:
        compute: a case to our numbers, by the names of its expected ones.
        value_tolerance: relative error allowed on the loss beyond the common tolerance.
        gradient_tolerance: the same for everything else.
        proves: options of group `method` that a case speaks for; by default the one it is computed from.
        function: the loss that a case speaks for; by default the one it is computed from.
    """

    compute: Compute
    value_tolerance: float = 0.0
    gradient_tolerance: float = 0.0
    proves: Sequence[str] = ()
    function: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """The methods a case of this recipe speaks for."""
        if self.proves:
            return tuple(self.proves)
        return (self.compute.option,) if isinstance(self.compute, MethodRecipe) else ()

    @property
    def loss(self) -> str:
        """The loss function a case of this recipe speaks for, or ""."""
        return self.function or (self.compute.loss if isinstance(self.compute, LossRecipe) else "")


def reduction(text: str) -> str:
    """The vector files' prose about a mean, as our switch."""
    return "classes_mean" if "batch and classes" in text.lower() else "classes_sum"


def differentiate(case: Case, loss_of: Callable[[Mapping[str, Tensor]], Tensor]) -> dict[str, Tensor]:
    """A loss of a case's inputs, and its gradients to those that have one in the file."""
    wanted = [name for name in case.inputs if name in case.expected]
    leaves = {name: value.clone().requires_grad_(name in wanted) for name, value in case.inputs.items()}
    loss = loss_of(leaves)
    given = torch.autograd.grad(loss, [leaves[name] for name in wanted], allow_unused=True) if wanted else ()
    gradients = {
        name: torch.zeros_like(leaves[name]) if gradient is None else gradient
        for name, gradient in zip(wanted, given, strict=True)
    }
    return {"loss": loss.detach(), **gradients}


@dataclass(frozen=True, kw_only=True)
class MethodRecipe:
    """A method by its YAML.

    Attributes:
        option: of group `method`.
        keys: their hyper-parameter to our key.
        fixed: overrides that always hold.
        names: their name of one of our models.
        progress: their hyper-parameter that says how far training has come, as a share; training is over without it.
    """

    option: str
    keys: Mapping[str, str]
    fixed: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    progress: str = "progress"

    def __call__(self, case: Case) -> Mapping[str, Tensor]:
        """Our loss and gradients."""
        overrides = ["+epochs=1", *self.fixed]
        epoch = _END
        for name, value in case.hyperparameters.items():
            if name == self.progress:
                epoch = float(value)
            elif name not in _REMARKS:
                overrides.append(f"{self._key(name)}={reduction(value) if name == 'reduction' else value}")
        objective = Objective(compose_group("method", self.option, overrides))

        def loss_of(leaves: Mapping[str, Tensor]) -> Tensor:
            given = GivenOutputs(tensors=leaves, truth=case.labels, names=self.names)
            result: ObjectiveResult = objective(given, epoch)
            return result.loss

        return differentiate(case, loss_of)

    def _key(self, name: str) -> str:
        if name not in self.keys:
            raise ValueError(unknown("hyper-parameter", name, sorted(self.keys)))
        return self.keys[name]


@dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """A loss function by its own name.

    Attributes:
        loss: of kdrobust.losses.
        keys: their hyper-parameter to ours, where it differs; to "" where it sets nothing.
        fixed: options that always hold.
    """

    loss: str
    keys: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, case: Case) -> Mapping[str, Tensor]:
        """Our loss and gradients."""
        options = {self.keys.get(name, name): value for name, value in case.hyperparameters.items()}
        options = {**self.fixed, **{name: value for name, value in options.items() if name}}
        feeds = {name: _feed(self.loss) for name in ("student", "teacher")}
        bound = bind({"loss": self.loss, **feeds, **options}, slot="loss", modules=LOSS_MODULES, key=case.method)

        def loss_of(leaves: Mapping[str, Tensor]) -> Tensor:
            value: Tensor = bound(GivenOutputs(tensors=leaves, truth=case.labels), 0.0)
            return value.mean()

        return differentiate(case, loss_of)


def _feed(loss: str) -> str:
    from kdrobust.losses import features, relations

    inner = {**public_functions(features), **public_functions(relations)}
    return "layer" if loss in inner else "clean"


def _terms(**weights: str) -> dict[str, str]:
    return {theirs: f"method.terms.{term}.weight" for theirs, term in weights.items()}


_TEMPERATURE = {"temperature": "method.temperature"}
_REDUCTION = {"reduction": "method.reduction"}
_ALPHA = {"alpha": "method.alpha"}
_BETA = {"beta": "method.beta"}
_MEAN = "method.reduction=classes_mean"
_LAST_TEMPERATURE = {"tau": "temperature", "t": "temperature"}


def _iad_2(case: Case) -> Mapping[str, Tensor]:
    """As the official code computes it; a case without the teachers' clean answers has them answer x'."""
    fixed = ["method.self_temperature=1"]
    if "teacher_clean" not in case.inputs:
        fixed += ["method.terms.teacher.teacher=adversarial", "method.terms.natural.teacher=natural.adversarial"]
    # their begin counts epochs of a training of their own length; every case is one of a trust that counts
    given = {name: value for name, value in case.hyperparameters.items() if name not in ("begin", "epoch")}
    if case.hyperparameters.get("epoch", 0) < case.hyperparameters.get("begin", 0):
        raise ValueError("iad_2: epoch: expected one from `begin` on")
    keys = {"alpha1": "method.alpha1", "alpha2": "method.alpha2", **_TEMPERATURE, **_BETA}
    return MethodRecipe(option="iad_2", keys=keys, fixed=fixed)(special.changed(case, hyperparameters=given))


def _hard_target(case: Case) -> Mapping[str, Tensor]:
    policy = "teacher"  # what DeiT, mmrazor and big_vision do
    if "alpha" not in case.hyperparameters:
        return LossRecipe(loss="hard_target", fixed={"wrong": policy})(case)
    fixed = ("method.knowledge=hard_target", "~method.temperature", f"+method.terms.knowledge.wrong={policy}")
    return MethodRecipe(option="kd", keys=_ALPHA, fixed=fixed)(case)


def _dynamic(case: Case) -> Mapping[str, Tensor]:
    given = {"ce_weight": 0.0, "warmup": 1, **case.hyperparameters}
    # their epochs count from 1, ours from 0
    given["epoch"] = float(given.get("epoch", given["warmup"])) - 1.0
    keys = {**_ALPHA, **_BETA, **_TEMPERATURE, **_terms(ce_weight="prediction"), "warmup": "method.warmup"}
    recipe = MethodRecipe(option="dynamic_temperature", keys=keys, progress="epoch")
    return recipe(special.changed(case, hyperparameters=given))


def _other_kd(case: Case) -> Mapping[str, Tensor]:
    """Our distillation at the settings of libraries that call theirs by other names and mean other things."""
    given = dict(case.hyperparameters)
    weight = given.get("distil_weight", given.get("alpha") if "tau" in given else None)
    labels = given.get("alpha", 0.0) if weight is None else 1.0 - weight
    temperature = given.get("temperature", given.get("tau", given.get("temp", 1.0)))
    settled = special.changed(case, hyperparameters={"alpha": labels, "temperature": temperature})
    return MethodRecipe(option="kd", keys={**_ALPHA, **_TEMPERATURE})(settled)


_METHODS: dict[str, Recipe] = {
    "rslad": Recipe(
        compute=MethodRecipe(
            option="rslad",
            keys={
                **_terms(weight_adversarial="adversarial", weight_clean="clean"),
                **_TEMPERATURE,
                **_REDUCTION,
            },
        ),
        # the official value has 1e-5 added inside the teacher's logarithm, a constant without gradient
        value_tolerance=1e-3,
    ),
    "ard": Recipe(compute=MethodRecipe(option="ard", keys={**_ALPHA, **_TEMPERATURE, **_REDUCTION})),
    "adaad": Recipe(compute=MethodRecipe(option="adaad", keys={**_ALPHA, **_TEMPERATURE, **_REDUCTION})),
    "iad_1": Recipe(compute=MethodRecipe(option="iad", keys={**_ALPHA, **_TEMPERATURE, **_BETA})),
    "iad_2": Recipe(compute=_iad_2, proves=("iad_2",)),
    "trades": Recipe(compute=MethodRecipe(option="trades", keys=_BETA)),
    # the official code adds 1e-12 inside two logarithms
    "mart": Recipe(compute=MethodRecipe(option="mart", keys=_BETA), value_tolerance=1e-6, gradient_tolerance=1e-6),
    "lbgat": Recipe(compute=MethodRecipe(option="lbgat", keys=_BETA)),
    "igdm_adaad": Recipe(
        compute=MethodRecipe(option="igdm", keys={"igdm_alpha": "method.gradient_matching", **_ALPHA, **_REDUCTION})
    ),
    "saad": Recipe(
        compute=MethodRecipe(
            option="saad",
            keys={
                "igdm_alpha": "method.gradient_matching",
                "entropy_scale": "method.scale",
                "gamma": "method.gamma",
                **_BETA,
            },
        )
    ),
    "peeraid": Recipe(
        compute=special.split(
            MethodRecipe(
                option="peeraid",
                keys={
                    **{name: f"method.{name}" for name in ("lambda1", "lambda2", "lambda3", "gamma1", "gamma2")},
                    **_TEMPERATURE,
                    "peer_temperature": "method.peer_temperature",
                },
                fixed=(_MEAN,),
                names={"peer": "teacher"},
            )
        ),
        proves=("peeraid",),
    ),
    "mtard": Recipe(compute=special.mtard, value_tolerance=1e-3, proves=("mtard",)),
    # the rule; the loss it weighs is the host's, which has cases of its own
    "fair_ard_weights": Recipe(compute=special.class_weight_rule, proves=("fair_ard", "fair_rslad")),
    "absld_temperatures": Recipe(compute=special.class_temperature_rule, proves=("absld",)),
    "kd": Recipe(compute=MethodRecipe(option="kd", keys={**_ALPHA, **_TEMPERATURE})),
    "kd_variant": Recipe(compute=_other_kd),
    "dynamic_temperature": Recipe(compute=_dynamic, proves=("dynamic_temperature",), function="dynamic_temperature"),
    "hard_target": Recipe(compute=_hard_target, function="hard_target"),
    "curriculum_temperature": Recipe(compute=special.curriculum, function="CurriculumTemperature"),
    "hint": Recipe(compute=special.hint, function="hint"),
}
_LOSSES: dict[str, LossRecipe] = {
    "soft_target": LossRecipe(loss="soft_target", keys=_LAST_TEMPERATURE),
    "dist": LossRecipe(loss="dist", keys=_LAST_TEMPERATURE),
    "dkd": LossRecipe(loss="dkd", keys={**_LAST_TEMPERATURE, "reduction": ""}),
    "ttm": LossRecipe(loss="ttm", keys={"exponent": "gamma"}),
    "wttm": LossRecipe(loss="wttm", keys={"exponent": "gamma"}),
    "wsld": LossRecipe(loss="wsld", keys=_LAST_TEMPERATURE),
    "mlkd_cc": LossRecipe(loss="class_correlation"),
    "mlkd_bc": LossRecipe(loss="batch_correlation"),
    "attention_transfer": LossRecipe(loss="attention_transfer", keys={"norm_type": "p"}),
    "attention_transfer_paper": LossRecipe(loss="attention_transfer", fixed={"mode": "paper"}),
    "channel_wise": LossRecipe(loss="channel_wise", keys=_LAST_TEMPERATURE),
    "relational_l2norm": LossRecipe(loss="relational", keys={"with_l2_norm": "normalize"}),
    "nst": LossRecipe(loss="neuron_selectivity"),
    "correlation_congruence_rep": LossRecipe(loss="neighbour_congruence"),
}


def _functions() -> dict[str, Callable[..., Any]]:
    return {name: item for module in LOSS_MODULES for name, item in public_functions(module).items()}


def known_methods() -> list[str]:
    """Every name that can be checked: the methods above, and each loss function by its own name."""
    return sorted({*_METHODS, *_LOSSES, *_functions()})


def find_recipe(name: str) -> Recipe:
    """The recipe for a name in a vector file; a fault's entry is computed as what it should have been.

    Raises:
        ValueError: nobody here answers for that name.
    """
    if name in _METHODS:
        return _METHODS[name]
    plain = name.removesuffix(VARIANT)
    plain, standardised = plain.removesuffix(_ZSCORE), plain.endswith(_ZSCORE)
    if plain in _METHODS and not standardised:
        return _METHODS[plain]
    if plain not in _LOSSES and plain not in _functions():
        raise ValueError(unknown("method", name, known_methods()))
    recipe = _LOSSES.get(plain, LossRecipe(loss=plain))
    if standardised:
        fixed = {**recipe.fixed, "logits_transform": "zscore"}
        recipe = LossRecipe(loss=recipe.loss, keys=recipe.keys, fixed=fixed)
    return Recipe(compute=recipe)
