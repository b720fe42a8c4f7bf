"""Networks as a config names them, the user's own among them: made, and tried on two inputs before anything slow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from inspect import Parameter
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from kdrobust.config import instantiate
from kdrobust.config.build import first_line, key_of, trusted_modules
from kdrobust.config.kinds import NETWORK
from kdrobust.config.targets import below, signature
from kdrobust.data import DataModule
from kdrobust.errors import CheckpointError, KdrobustError, UsageError
from kdrobust.models import Classifier, build_classifier, check_answers
from kdrobust.models.sizes import NetworkSizeError
from kdrobust.spec import InputSpec

_SMALLER = "fewer channels or units, or a smaller width"
_TRACE = "HYDRA_FULL_ERROR=1 shows where"
_FIELDS = ", ".join(f"spec.{field.name}" for field in fields(InputSpec))


def _networks(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Every `network` of a config that names a class, with its key."""
    several = [(f"{group}.{name}", node) for group in ("teachers", "partners") for name, node in _items(cfg.get(group))]
    for key, node in (("teacher", cfg.get("teacher")), ("student", cfg.get("student")), *several):
        network = node.get("network") if isinstance(node, DictConfig) else None
        if isinstance(network, DictConfig) and network.get("_target_") is not None:
            yield f"{key}.network", network


def _items(node: Any) -> list[tuple[Any, Any]]:
    return list(node.items()) if isinstance(node, DictConfig) else []


def network_problems(cfg: DictConfig) -> list[str]:
    """Networks that cannot be made for the data since they take no `spec`, one line each."""
    problems = []
    for key, node in _networks(cfg):
        target = str(node["_target_"])
        try:
            takes = signature(NETWORK.find(target, trusted_modules(node)))
        except UsageError:
            continue  # `kdrobust.config.check` says so
        if takes is None or "spec" in takes.parameters:
            continue
        if not any(each.kind is Parameter.VAR_KEYWORD for each in takes.parameters.values()):
            problems.append(
                f"{key}._target_={target}: takes no `spec`, by which it learns of the data's shape and classes; write "
                "def __init__(self, *, spec, ...) and use spec.shape and spec.classes"
            )
    return problems


def checked_classifier(node: DictConfig | Mapping[str, Any], spec: InputSpec, seed: int) -> Classifier:
    """A freshly initialised classifier from a model config, which answers inputs of these data with logits.

    Args:
        node: `network` and `normalize`.
        spec: the data's.
        seed: the run's seed.

    Raises:
        UsageError: the network cannot be made, does not take the data's inputs, changes them in place, or returns no
            logits of the data's classes; names the key.
    """
    target = str(node["network"].get("_target_", ""))
    place = key_of(node["network"]) or "network"
    what = f"{place}={target}"
    try:
        factory = instantiate(node["network"], NETWORK)
        if below(target, ["kdrobust"]):
            _require_memory(factory, spec, place)
        model = build_classifier(factory, spec=spec, normalize=bool(node["normalize"]), seed=seed)
    except NetworkSizeError as error:
        raise UsageError(f"{place}.{error}") from error
    except KdrobustError:
        raise
    except Exception as error:  # whatever code of the user's own stumbles over
        if "allocate memory" in str(error):
            raise UsageError(f"{place}: its weights do not fit into memory; {_SMALLER}") from error
        known = f"; there are {_FIELDS}" if isinstance(error, AttributeError) and "InputSpec" in str(error) else ""
        raise UsageError(
            f"{what}: making it failed ({type(error).__name__}: {first_line(error)}){known}; {_TRACE}"
        ) from error
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            inputs = torch.full((2, *spec.shape), spec.middle())
            check_answers(model, inputs, classes=spec.classes, what=what, remedy="end it with spec.classes outputs")
    except CheckpointError as error:
        raise UsageError(str(error)) from error.__cause__
    finally:
        for module, training in modes:
            module.training = training
    return model


def _require_memory(factory: Callable[..., nn.Module], spec: InputSpec, place: str) -> None:
    """Refuse weights that this machine's memory does not hold: the system would end the process, without a word."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            needed = sum(weight.numel() * weight.element_size() for weight in factory(spec=spec).parameters())
    except KdrobustError:
        raise
    except Exception:  # a network that cannot be made without data is made with it
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    if memory is not None and needed > memory:
        raise UsageError(
            f"{place}: {needed / 1e9:,.0f} GB of weights, and this machine has {memory / 1e9:.0f} GB of memory; "
            f"{_SMALLER}"
        )


def check_batch(model: nn.Module, data: DataModule, processes: int) -> None:
    """Refuse training batches in which batch norm would see a single value a channel.

    Args:
        model: takes [B, *shape].
        data: prepared.
        processes: how many share the training samples.

    Raises:
        UsageError: a process' batches hold one sample, and a layer of batch norm has nothing else to take the mean of.
    """
    if min(data.batch_size, len(data.split("train")) // processes) != 1:
        return
    single: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs[0][:1].numel() == inputs[0].shape[1]:
                single.append(name)

        return hook

    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    hooks = [
        module.register_forward_pre_hook(look(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(torch.full((2, *data.spec.shape), data.spec.middle()))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    if single:
        few = "" if data.batch_size == 1 else f" (there are {len(data.split('train'))} training samples)"
        raise UsageError(
            f"data.batch_size={data.batch_size}: of a batch of one sample{few} the batch norm {single[0]} sees one "
            "value a channel, whose variance is zero; set at least 2"
        )
