"""Checkpoints are data: read without running code, refused where they do not fit."""

from __future__ import annotations

import errno
import hashlib
import importlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrobust.config.build import first_line, instantiate
from kdrobust.config.kinds import NETWORK
from kdrobust.config.targets import LIBRARIES, below, refuse
from kdrobust.config.trust import trusted_packages
from kdrobust.errors import CheckpointError, KdrobustError, UsageError
from kdrobust.models.classifier import Classifier
from kdrobust.spec import InputSpec
from kdrobust.tracking import damage, regular

FORMAT = 1
_REMEDY = "data=... must name what it was trained on"
_PREFIX = "model."
_NETWORKS = "kdrobust.models."
#: What a trusted network may be made of beside its own package.
_PARTS = ("torch.nn", "kdrobust.models")


def checkpoint_payload(
    *, model: Mapping[str, Any], spec: InputSpec, stage: str, threat: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a checkpoint says about its model, under the key `kdrobust`.

    Args:
        model: `network` (its plain config with `_target_`) and `normalize`.
        spec: what it was built for.
        stage: which stage trained it.
        threat: the threat model it was trained against.
    """
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(spec).items()}
    return {"format": FORMAT, "model": dict(model), "spec": plain, "stage": stage, "threat": dict(threat or {})}


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_data(path: str | Path, *, trust: bool = False, flag: str = "") -> Any:
    """Read a file of `torch.save` onto the CPU; nothing in it is executed, unless it is trusted.

    Args:
        path: the file.
        trust: unpickle it whatever it holds; its code runs with the rights of whoever reads it.
        flag: the setting that grants this trust, for the refusal; empty: there is none.

    Raises:
        CheckpointError: it is missing, damaged, or holds more than data.
    """
    if not regular(path):
        raise CheckpointError(f"{path}: is a pipe or a device, not a file")
    # torch itself reads flipped weights without a word; files of its older format, which is no archive, carry no sums
    if zipfile.is_zipfile(path) and (found := damage(path)) is not None:
        raise CheckpointError(f"{path}: {found}; train it again or take another file")
    try:
        with warnings.catch_warnings():
            # of other pickle protocols, which are refused in a line below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; name the best.ckpt in it") from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            remedy = f"if you know where it comes from, set {flag}" if flag else "take another file"
            raise CheckpointError(
                f"{path}: holds more than data (a pickle that runs code); it was not loaded; {remedy}"
            ) from None
        raise CheckpointError(f"{path}: damaged or no checkpoint; train it again or take another file") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch's zip reader on a file that was cut short
            raise CheckpointError(f"{path}: damaged or no checkpoint; train it again or take another file") from None
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        ArithmeticError,
    ):
        raise CheckpointError(f"{path}: damaged or no checkpoint; train it again or take another file") from None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read one of our checkpoints onto the CPU; nothing in it is executed.

    Raises:
        CheckpointError: it is missing, damaged, holds more than data, or is not one of ours.
    """
    checkpoint = load_data(path)
    payload = checkpoint.get("kdrobust") if isinstance(checkpoint, dict) else None
    if not isinstance(payload, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path}: not a kdrobust checkpoint; make one with `kdrobust teacher` or `kdrobust distill`"
        )
    if payload.get("format") != FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {payload.get('format')}, this version reads {FORMAT}")
    model = payload.get("model")
    whole = _is_spec(payload.get("spec")) and isinstance(model, dict) and {"network", "normalize"} <= set(model)
    if not whole or not isinstance(checkpoint["state_dict"], dict):
        raise CheckpointError(f"{path}: damaged: it does not say what model it holds; train it again")
    return dict(checkpoint)


def _is_spec(value: Any) -> bool:
    if not isinstance(value, dict) or not {"shape", "classes"} <= set(value) <= set(InputSpec.__dataclass_fields__):
        return False
    lists = [value[key] for key in set(value) - {"classes", "sample_rate", "peak"}]
    whole = all(isinstance(each, list) for each in lists) and isinstance(value["classes"], int)
    rate, peak = value.get("sample_rate"), value.get("peak")
    positive = [*value["shape"], *([] if rate is None else [rate])] if whole else []
    loud = peak is None or (isinstance(peak, float) and 0 < peak <= 1)
    return whole and loud and all(isinstance(number, int) and number > 0 for number in positive)


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Copy a checkpoint's weights into a classifier.

    Raises:
        CheckpointError: it is a checkpoint of another model; names the first difference.
    """
    weights = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    own = model.state_dict()
    for name, value in own.items():
        if name not in weights:
            raise CheckpointError(f"{path}: checkpoint of another model: it has no {name}")
        if weights[name].shape != value.shape:
            shapes = f"{tuple(weights[name].shape)}, the model {tuple(value.shape)}"
            raise CheckpointError(f"{path}: checkpoint of another model: {name} has shape {shapes}")
    extra = [name for name in weights if name not in own]
    if extra:
        raise CheckpointError(f"{path}: checkpoint of another model: the model has no {extra[0]}")
    model.load_state_dict(weights)


def stored_spec(checkpoint: Mapping[str, Any]) -> InputSpec:
    """The data interface a checkpoint's model was built for."""
    fields: dict[str, Any] = checkpoint["kdrobust"]["spec"]
    plain: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
    return InputSpec(**plain)


def check_spec(
    checkpoint: Mapping[str, Any],
    spec: InputSpec,
    path: str | Path,
    *,
    remedy: str = _REMEDY,
) -> None:
    """Refuse a model of other data.

    Args:
        checkpoint: of the model.
        spec: what it shall be given.
        path: the checkpoint's, for the refusal.
        remedy: what to do about inputs of another form.

    Raises:
        CheckpointError: its class count, input shape, value range or sample rate differs from the data's.
    """
    fit(stored_spec(checkpoint), spec, path, remedy=remedy)


def fit(stored: InputSpec, spec: InputSpec, path: str | Path, *, remedy: str) -> None:
    """As `check_spec`, of a model that is known by its spec alone."""
    check_form(stored, (spec.classes, spec.shape), path, remedy=remedy)
    for key in ("bounds", "sample_rate"):
        own, given = getattr(stored, key), getattr(spec, key)
        if own != given:
            raise CheckpointError(f"{path}: the model was built for {key} {own}, the data have {given}; {remedy}")


def check_form(
    stored: InputSpec, form: tuple[int, tuple[int, ...]], path: str | Path, *, remedy: str = _REMEDY
) -> None:
    """The part of `check_spec` that can be told of data before they are read: their class count and shape."""
    classes, shape = form
    if stored.classes != classes:
        raise CheckpointError(f"{path}: the model has {stored.classes} classes, the data have {classes}; {_REMEDY}")
    if stored.shape != shape:
        raise CheckpointError(f"{path}: the model takes inputs {stored.shape}, the data are {shape}; {remedy}")


def check_class_names(own: InputSpec, spec: InputSpec, what: str, *, remedy: str = _REMEDY) -> None:
    """Refuse a model whose classes the data call otherwise: as many of them are not the same ones.

    Args:
        own: of the data the model was trained on.
        spec: of the data it shall answer for.
        what: begins the refusal.
        remedy: ends it.

    Raises:
        CheckpointError: both name their classes, and differ.
    """
    for place, (mine, theirs) in enumerate(zip(own.class_names or (), spec.class_names or (), strict=False)):
        if mine != theirs:
            raise CheckpointError(f"{what}: its class {place} is {mine!r}, the data call it {theirs!r}; {remedy}")


def check_network(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint whose network may not be rebuilt; nothing it names is imported.

    Args:
        checkpoint: what `read_checkpoint` gave.
        path: the checkpoint's, for the refusal.

    Raises:
        CheckpointError: its network is neither of `kdrobust.models` nor of a package that is trusted, see
            `kdrobust.config.trusting`.
    """
    node = checkpoint["kdrobust"]["model"]["network"]
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    inner = list(_targets([value for key, value in node.items() if key != "_target_"])) if target else []
    # a user who trusts torch for a loss of its own has not said that a file may call torch.hub.load
    trusted = [name for name in trusted_packages() if name.split(".")[0] not in LIBRARIES]
    if below(target, trusted):
        strange = [name for name in inner if not below(name, (*_PARTS, *trusted))]
        named = strange[0] if strange else None
    else:
        named = target if inner or not target.startswith(_NETWORKS) else None
    if named is None:
        return
    root = named.split(".")[0]
    own = root not in LIBRARIES and refuse(named, [root]) is None
    remedy = f"; if you know this package, add trusted_modules=[{root}]" if own else ""
    raise CheckpointError(
        f"{path}: names the network {named!r}; only networks of kdrobust.models and of packages you trust are rebuilt "
        f"from it{remedy}"
    )


def _targets(value: Any) -> Iterator[str]:
    """Every `_target_` within plain values."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield str(value["_target_"])
        value = [item for key, item in value.items() if key != "_target_"]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _targets(item)


def _build(checkpoint: Mapping[str, Any], spec: InputSpec, path: str | Path) -> nn.Module:
    check_network(checkpoint, path)
    node = checkpoint["kdrobust"]["model"]["network"]
    target = str(node["_target_"])
    if target.startswith(_NETWORKS):
        factory = getattr(importlib.import_module("kdrobust.models"), target.rpartition(".")[2], None)
        if not (isinstance(factory, type) and issubclass(factory, nn.Module)):
            raise CheckpointError(f"{path}: names the network {target!r}, which this version does not have")
        arguments = {key: value for key, value in node.items() if not key.startswith("_")}
        try:
            return factory(spec=spec, **arguments)
        except TypeError as error:
            raise CheckpointError(f"{path}: its network {target} does not fit this version ({error})") from None
        except KdrobustError as error:
            raise CheckpointError(f"{path}: its network {target} cannot be made ({error})") from None
    try:
        network = instantiate({**node, "_partial_": True}, NETWORK)(spec=spec)
    except UsageError as error:
        raise CheckpointError(f"{path}: its network {target} cannot be made ({error})") from error
    except Exception as error:  # whatever code of the user's own stumbles over
        raise CheckpointError(
            f"{path}: its network {target} cannot be made ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"{path}: its network {target} made a {type(network).__name__}, not a torch.nn.Module")
    return network


def restore_classifier(path: str | Path, checkpoint: Mapping[str, Any] | None = None) -> Classifier:
    """Rebuild a model from its checkpoint alone.

    Args:
        path: the file, and what errors name.
        checkpoint: what `read_checkpoint` has read there already; read here without.

    Raises:
        CheckpointError: see `read_checkpoint`; or a network that is neither of `kdrobust.models` nor of a package that
            is trusted, see `kdrobust.config.trusting`.
    """
    if checkpoint is None:
        checkpoint = read_checkpoint(path)
    spec = stored_spec(checkpoint)
    with torch.random.fork_rng(devices=[]):
        network = _build(checkpoint, spec, path)
    model = Classifier(network, spec=spec, normalize=bool(checkpoint["kdrobust"]["model"]["normalize"]))
    load_weights(model, checkpoint, path)
    return model
