"""Cases that are more than one loss: trajectories, update rules, learnt temperatures, regressors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrobust.config import compose_group
from kdrobust.conformance.cases import Case, as_tensor
from kdrobust.conformance.outputs import GivenOutputs
from kdrobust.errors import DataError
from kdrobust.losses import Objective
from kdrobust.losses.adapters import Adapter
from kdrobust.losses.classwise import class_temperatures, class_weights
from kdrobust.losses.features import hint as hint_loss
from kdrobust.losses.tempered import CurriculumTemperature

_MTARD_KEYS = {"weight_learn_rate": "method.rate", "beta": "method.beta", "initial_weight_natural": None}


def changed(case: Case, **fields: Any) -> Case:
    """The same case with some fields replaced."""
    return replace(case, **fields)


def _want(case: Case, key: str) -> Any:
    if key not in case.extra:
        raise DataError(f"{case.method}: the case has no {key}")
    return case.extra[key]


def expected_of(case: Case) -> dict[str, Tensor]:
    """The numbers a special case must reproduce, beyond `Case.expected`."""
    extra = case.extra
    if "steps" in extra:
        found: dict[str, Tensor] = {}
        for number, step in enumerate(extra["steps"]):
            for key in ("loss_adversarial", "loss_natural", "weight_natural", "weight_adversarial", "total"):
                found[f"step {number} {key}"] = as_tensor(step[key], f"steps[{number}].{key}")
                if key.startswith("weight"):
                    found[f"step {number} total {key}"] = found[f"step {number} {key}"]
            for name, values in step["gradients"].items():
                found[f"step {number} gradient {name}"] = as_tensor(values, f"steps[{number}].gradients.{name}")
        return found
    named = {
        "weights": "weights",
        "after": "after",
        "grad_raw_temperature_after_reversal": "raw_temperature",
        "temperature": "temperature",
        "grad_regressor_weight": "regressor_weight",
    }
    found = {ours: as_tensor(extra[key], key) for key, ours in named.items() if key in extra}
    for key in ("loss_peer", "loss_student"):
        if key in (extra.get("extra") or {}):
            found[key] = as_tensor(extra["extra"][key], f"extra.{key}")
    return found


def _mtard_settings(case: Case) -> tuple[list[str], float]:
    overrides, start = ["+epochs=1", "method.reduction=classes_mean"], 0.5
    for name, value in case.hyperparameters.items():
        if name not in _MTARD_KEYS:
            raise ValueError(f"no hyper-parameter {name!r}; known: {', '.join(_MTARD_KEYS)}")
        if name == "initial_weight_natural":
            start = float(value)
        else:
            overrides.append(f"{_MTARD_KEYS[name]}={value}")
    return overrides, start


def mtard(case: Case) -> Mapping[str, Tensor]:
    """A trajectory, twice: end to end, and the rule alone fed with the official losses.

    The official losses carry 1e-5 inside a logarithm, so that the first agrees to about 1e-4 only, the second to
    rounding; the gradients are those under the second's weights.
    """
    overrides, start = _mtard_settings(case)
    first = f"+method.balance.start=[{start},{1.0 - start}]"
    whole = Objective(compose_group("method", "mtard", [*overrides, first])).train()
    balance = Objective(compose_group("method", "mtard", [*overrides, first])).train().method.balance
    assert balance is not None
    ours: dict[str, Tensor] = {}
    for number, step in enumerate(_want(case, "steps")):
        leaves = {
            name: as_tensor(values, f"steps[{number}].inputs.{name}").requires_grad_(name in step["gradients"])
            for name, values in step["inputs"].items()
        }
        given = GivenOutputs(tensors=leaves, truth=None, names={"robust": "teacher"})
        # epoch 0: the rate has not dropped yet
        result = whole(given, 0.0)
        official = {role: as_tensor(step[f"loss_{role}"], role) for role in ("adversarial", "natural")}
        weights = balance(official, 0.0)
        fixed = [f"+method.terms.{role}.weight={float(weight)!r}" for role, weight in weights.items()]
        weighed = Objective(compose_group("method", "mtard", [*overrides, "~method.balance", *fixed]))(given, 0.0)
        wanted = list(step["gradients"])
        gradients = torch.autograd.grad(weighed.loss, [leaves[name] for name in wanted], allow_unused=True)
        ours[f"step {number} total"] = result.loss.detach()
        for role, weight in weights.items():
            ours[f"step {number} loss_{role}"] = result.parts[role].value
            ours[f"step {number} weight_{role}"] = weight
            ours[f"step {number} total weight_{role}"] = torch.as_tensor(result.parts[role].weight)
        for name, gradient in zip(wanted, gradients, strict=True):
            ours[f"step {number} gradient {name}"] = torch.zeros_like(leaves[name]) if gradient is None else gradient
    return ours


def class_weight_rule(case: Case) -> Mapping[str, Tensor]:
    """Fair weights from the classes' mean numbers of survived steps."""
    kappa = as_tensor(_want(case, "kappa"), "kappa")
    options: dict[str, Any] = dict(case.hyperparameters)
    return {"weights": class_weights(kappa, **options)}


def class_temperature_rule(case: Case) -> Mapping[str, Tensor]:
    """One step of the classes' temperatures."""
    names = {"min": "minimum", "max": "maximum"}
    options = {names.get(key, key): value for key, value in case.hyperparameters.items()}
    losses, before = (as_tensor(_want(case, key), key) for key in ("class_losses", "before"))
    return {"after": class_temperatures(losses, before, **options)}


def curriculum(case: Case) -> Mapping[str, Tensor]:
    """A learnt temperature: loss, the student's gradient and the reversed one of the raw temperature."""
    options = dict(case.hyperparameters)
    reversal = float(options.pop("lambda_"))
    module = CurriculumTemperature(**options).double()
    student = case.inputs["student"].clone().requires_grad_(True)
    loss = module(student, case.inputs["teacher"], lambda_=reversal).mean()
    gradient, raw = torch.autograd.grad(loss, [student, module.raw_temperature])
    temperature = module.temperature()
    return {"loss": loss.detach(), "student": gradient, "raw_temperature": raw, "temperature": temperature.detach()}


def hint(case: Case) -> Mapping[str, Tensor]:
    """Mean squared error of maps, through a regressor where the case has one."""
    student = case.inputs["student"].clone().requires_grad_(True)
    teacher = case.inputs["teacher"]
    if "regressor" not in case.hyperparameters:
        loss = hint_loss(student, teacher).mean()
        (gradient,) = torch.autograd.grad(loss, [student])
        return {"loss": loss.detach(), "student": gradient}
    given = case.extra["sets"].get("regressor")
    if given is None:
        raise DataError("the file has no input set 'regressor', but the case needs it")
    adapter = Adapter.between(tuple(student.shape[1:]), tuple(teacher.shape[1:])).double().train()
    convolution = next(module for module in adapter.modules() if isinstance(module, torch.nn.Conv2d))
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.copy_(as_tensor(given["weight"], "regressor.weight"))
        convolution.bias.copy_(as_tensor(given["bias"], "regressor.bias"))
    loss = hint_loss(*adapter(student, teacher)).mean()
    gradient, weight = torch.autograd.grad(loss, [student, convolution.weight])
    return {"loss": loss.detach(), "student": gradient, "regressor_weight": weight}


def split(whole: Callable[[Case], Mapping[str, Tensor]]) -> Callable[[Case], Mapping[str, Tensor]]:
    """A method of two learners: the whole, and each one's own loss with the other's weights at zero."""
    roles = {"loss_student": ("gamma1", "gamma2"), "loss_peer": ("lambda1", "lambda2", "lambda3")}

    def compute(case: Case) -> Mapping[str, Tensor]:
        ours = dict(whole(case))
        for role, others in roles.items():
            silent = {**case.hyperparameters, **dict.fromkeys(others, 0)}
            ours[role] = whole(changed(case, hyperparameters=silent))["loss"]
        return ours

    return compute
