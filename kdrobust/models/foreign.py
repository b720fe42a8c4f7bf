"""Models from elsewhere: timm, TorchScript, or a function of a package the user trusts; and what they must answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.config.kinds import IMPORTED_MODEL
from kdrobust.errors import CheckpointError, KdrobustError, UsageError
from kdrobust.models.classifier import Classifier
from kdrobust.models.convnet import image_shape
from kdrobust.models.inplace import IN_PLACE, answer_of_copy
from kdrobust.models.state import load_state, one_line
from kdrobust.models.timm import timm_library
from kdrobust.spec import InputSpec


def load_timm(
    name: str,
    *,
    spec: InputSpec,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    trust: bool = False,
    prefix: str | None = None,
) -> nn.Module:
    """A trained timm model.

    Args:
        name: timm's name, e.g. `resnet18`.
        spec: with weights of one's own, the data's channels and classes shape the model.
        weights: a file for `load_state`; otherwise `arguments` need `pretrained: true`, which fetches timm's.
        arguments: further arguments of `timm.create_model`.
        trust: unpickle the weights even if they hold more than data.
        prefix: what the model's names begin with in the weights' file; None: found out, see `load_state`.

    Raises:
        UsageError: timm is not installed, knows no such model or argument, or nothing says where weights come from.
        CheckpointError: weights that cannot be read, fetched or do not fit.
    """
    given = dict(arguments or {})
    library = timm_library(name, key="model.timm")
    if weights is None and not given.get("pretrained"):
        raise UsageError(
            f"model.timm={name}: without weights it knows nothing; set model.weights=PATH, or "
            "+model.arguments.pretrained=true to fetch timm's"
        )
    if weights is not None:
        channels, _, _ = image_shape(spec, "model.timm")
        given = {"in_chans": channels, "num_classes": spec.classes, **given, "pretrained": False}
    model = _made(library.create_model, f"model.timm={name}", name, **given)
    return model if weights is None else load_state(model, weights, trust=trust, prefix=prefix)


def load_torchscript(path: str | Path, *, trust: bool) -> nn.Module:
    """A module saved with `torch.jit.save`, on the CPU.

    Args:
        path: the file.
        trust: a scripted model is code, not data: it runs as soon as it is asked, with the rights of whoever asks.

    Raises:
        UsageError: it is not trusted.
        CheckpointError: it is missing, or no TorchScript file.
    """
    if not trust:
        raise UsageError(
            f"model.torchscript={path}: a scripted model is code that runs with your rights; if you know where it "
            "comes from, set model.trust=true"
        )
    if not Path(path).is_file():
        raise CheckpointError(f"model.torchscript={path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"model.torchscript={path}: damaged or no script ({one_line(error)}); write it with torch.jit.save"
        ) from None
    return model


def load_imported(
    path: str,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
    trust: bool = False,
    prefix: str | None = None,
) -> nn.Module:
    """What a function or class of a package returns.

    Args:
        path: `package.module:function`, or with a dot instead of the colon.
        weights: a file for `load_state`; None leaves the model as it was made.
        arguments: what the function is called with.
        trusted: packages that may be imported beside torch.nn, torchvision.models and kdrobust.models.
        trust: unpickle the weights even if they hold more than data.
        prefix: what the model's names begin with in the weights' file; None: found out, see `load_state`.

    Raises:
        UsageError: the path lies outside trusted packages, leads nowhere, or does not make an `nn.Module`.
        CheckpointError: weights that cannot be read or do not fit.
    """
    key = f"model.import={path}"
    try:
        factory = IMPORTED_MODEL.find(path.replace(":", "."), trusted)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error.__cause__
    model = _made(factory, key, **dict(arguments or {}))
    if not isinstance(model, nn.Module):
        raise UsageError(f"{key}: it made a {type(model).__name__}, not a torch.nn.Module")
    return model if weights is None else load_state(model, weights, trust=trust, prefix=prefix)


def normalised(network: nn.Module, *, spec: InputSpec, normalize: Mapping[str, Sequence[float]] | None) -> Classifier:
    """A network with the normalisation it was trained with as its first layer; it takes pixels in [0, 1].

    Args:
        network: inputs to logits.
        spec: the data's shape.
        normalize: `mean` and `std` in pixels of [0, 1], one number a channel each; None: the network takes pixels.

    Raises:
        UsageError: other keys, other lengths than channels, or a deviation that is not positive.
    """
    if normalize is None:
        return Classifier(network, spec=spec)
    if not isinstance(normalize, Mapping) or set(normalize) != {"mean", "std"}:
        raise UsageError("model.normalize: expected {mean: [...], std: [...]}, one number a channel, or null")
    mean, std = (_floats(normalize[key], f"model.normalize.{key}", spec) for key in ("mean", "std"))
    if min(std) <= 0:
        raise UsageError(f"model.normalize.std={list(std)}: deviations are positive")
    return Classifier(network, spec=replace(spec, mean=mean, std=std), normalize=True)


def check_answers(
    model: nn.Module,
    inputs: Tensor,
    *,
    classes: int,
    what: str,
    remedy: str = "data=... must name what it was trained on",
) -> Tensor:
    """A model's answers to a few inputs, if they are logits of these classes.

    Args:
        model: in eval mode.
        inputs: [B, ...] in [0, 1].
        classes: K of the data.
        what: the key and value that named the model.
        remedy: what to do about another class count.

    Returns:
        Logits [B, K].

    Raises:
        CheckpointError: it does not take these inputs or changes them in place, returns no tensor [B, K], or has
            another class count or no parameters.
    """
    if next(model.parameters(), None) is None:
        raise CheckpointError(f"{what}: the model has no parameters; save a script without torch.jit.freeze")
    shape = tuple(inputs.shape[1:])
    try:
        with torch.no_grad():
            logits, written = answer_of_copy(model, inputs)
    except KdrobustError:
        raise
    except Exception as error:  # whatever code of the user's own stumbles over
        raise CheckpointError(f"{what}: the model does not take inputs {shape} ({one_line(error)})") from error
    if written:
        raise CheckpointError(f"{what}: {IN_PLACE}")
    if not isinstance(logits, Tensor):
        raise CheckpointError(
            f"{what}: the model returns a {type(logits).__name__}; expected a tensor of logits [B, K]"
        )
    if logits.dim() != 2 or len(logits) != len(inputs):
        found = tuple(logits.shape)
        raise CheckpointError(f"{what}: the model returns {found} for {len(inputs)} inputs; expected logits [B, K]")
    if logits.shape[1] != classes:
        raise CheckpointError(f"{what}: the model has {logits.shape[1]} classes, the data have {classes}; {remedy}")
    return logits


def _made(factory: Callable[..., Any], key: str, *positional: Any, **arguments: Any) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            return factory(*positional, **arguments)
    except (TypeError, ValueError, RuntimeError, OSError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(f"{key}: making the model failed ({one_line(error)}); see model.arguments") from error


def _floats(values: Any, key: str, spec: InputSpec) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise UsageError(f"{key}={values}: expected a list of numbers, one a channel") from None
    if len(numbers) not in (1, spec.shape[0]):
        raise UsageError(f"{key}: {len(numbers)} numbers for {spec.shape[0]} channels")
    return numbers
