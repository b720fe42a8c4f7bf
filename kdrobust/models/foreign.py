"""Models from elsewhere: RobustBench, timm, TorchScript, or a function of a package the user trusts."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kdrobust.config.targets import locate
from kdrobust.errors import CheckpointError, DataError, UsageError
from kdrobust.models.checkpoint import load_data, load_weights
from kdrobust.models.classifier import Classifier
from kdrobust.models.convnet import image_shape
from kdrobust.models.timm import timm_library
from kdrobust.spec import InputSpec

#: Where people's training scripts put the weights in what they save.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
#: What wrappers put before every name.
_PREFIXES = ("module.", "model.", "network.", "_orig_mod.")
_THREATS = {"linf": "Linf", "l2": "L2"}


def load_robustbench(name: str, *, dataset: str, norm: str, folder: str | Path) -> nn.Module:
    """A model of RobustBench's zoo; its weights are fetched into the folder where they are not there yet.

    RobustBench's models normalise for themselves. Its import of a package named `autoattack`, which no index offers, is
    answered with `pyautoattack`, the same code. Weights are read as data only.

    Args:
        name: e.g. `Wong2020Fast`.
        dataset: RobustBench's name of the data, e.g. `cifar10`.
        norm: `linf` or `l2`: which leaderboard.
        folder: weights are kept as `FOLDER/DATASET/Linf/NAME.pt`.

    Raises:
        UsageError: RobustBench is not installed, or has no such model.
        CheckpointError: the weights are neither there nor to be had, or cannot be read.
    """
    with _autoattack_by_its_old_name():
        zoo = _package("robustbench.utils", "pip install robustbench==1.1.1 (it asks for timm==1.0.9)")
    threat = _THREATS.get(norm, norm)
    try:
        with _data_only():
            model: nn.Module = zoo.load_model(
                model_name=name, model_dir=str(folder), dataset=dataset, threat_model=threat
            )
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"model.robustbench={name}: RobustBench has no such model for {dataset} and {threat} ({_line(error)})"
        ) from None
    except Exception as error:
        place = Path(folder) / dataset / threat / f"{name}.pt"
        raise CheckpointError(
            f"model.robustbench={name}: not loaded ({_line(error)}); its weights belong in {place}"
        ) from None
    return model


def load_timm(
    name: str, *, spec: InputSpec, weights: str | Path | None = None, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """A trained timm model.

    Args:
        name: timm's name, e.g. `resnet18`.
        spec: with weights of one's own, the data's channels and classes shape the model.
        weights: a file for `load_state`; otherwise `arguments` need `pretrained: true`, which fetches timm's.
        arguments: further arguments of `timm.create_model`.

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
    return model if weights is None else load_state(model, weights)


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
            f"model.torchscript={path}: damaged or no TorchScript file ({_line(error)}); write it with torch.jit.save"
        ) from None
    return model


def load_imported(
    path: str,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
) -> nn.Module:
    """What a function or class of a package returns.

    Args:
        path: `package.module:function`, or with a dot instead of the colon.
        weights: a file for `load_state`; None leaves the model as it was made.
        arguments: what the function is called with.
        trusted: packages that may be imported beside those every config may point into.

    Raises:
        UsageError: the path lies outside trusted packages, leads nowhere, or does not make an `nn.Module`.
        CheckpointError: weights that cannot be read or do not fit.
    """
    key = f"model.import={path}"
    try:
        factory = locate(path.replace(":", "."), trusted)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error.__cause__
    model = _made(factory, key, **dict(arguments or {}))
    if not isinstance(model, nn.Module):
        raise UsageError(f"{key}: it made a {type(model).__name__}, not a torch.nn.Module")
    return model if weights is None else load_state(model, weights)


def load_state(model: nn.Module, path: str | Path) -> nn.Module:
    """Fill a model with a state dict from a `.safetensors` file, or from one of `torch.save` read as data only.

    The state dict may lie under a usual name (`state_dict`, `model` ...), and every name in it may begin with what
    wrappers add (`module.` ...).

    Raises:
        CheckpointError: it is missing, damaged, holds more than data, or belongs to another model.
    """
    state = _read_state(Path(path))
    own = model.state_dict()
    while not set(own) & set(state):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    load_weights(model, {"state_dict": {f"model.{name}": value for name, value in state.items()}}, path)
    return model


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


def check_answers(model: nn.Module, inputs: Tensor, *, classes: int, what: str) -> Tensor:
    """A model's answers to a few inputs, if they are logits of these classes.

    Args:
        model: in eval mode.
        inputs: [B, ...] in [0, 1].
        classes: K of the data.
        what: the key and value that named the model.

    Returns:
        Logits [B, K].

    Raises:
        CheckpointError: it does not take these inputs, returns no tensor [B, K], or has another class count or no
            parameters.
    """
    if next(model.parameters(), None) is None:
        raise CheckpointError(f"{what}: the model has no parameters; a script must be saved without torch.jit.freeze")
    shape = tuple(inputs.shape[1:])
    try:
        with torch.no_grad():
            logits = model(inputs)
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
        raise CheckpointError(f"{what}: the model does not take inputs {shape} ({_line(error)})") from None
    if not isinstance(logits, Tensor):
        raise CheckpointError(
            f"{what}: the model returns a {type(logits).__name__}; expected a tensor of logits [B, K]"
        )
    if logits.dim() != 2 or len(logits) != len(inputs):
        found = tuple(logits.shape)
        raise CheckpointError(f"{what}: the model returns {found} for {len(inputs)} inputs; expected logits [B, K]")
    if logits.shape[1] != classes:
        raise CheckpointError(
            f"{what}: the model has {logits.shape[1]} classes, the data have {classes}; choose its own data=..."
        )
    return logits


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such checkpoint") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged or no safetensors file ({_line(error)})") from None
    content = load_data(path)
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: holds no state dict (names to tensors); save model.state_dict()")
    return {str(name): value for name, value in content.items()}


def _made(factory: Callable[..., Any], key: str, *positional: Any, **arguments: Any) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            return factory(*positional, **arguments)
    except (TypeError, ValueError, RuntimeError, OSError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(f"{key}: making the model failed ({_line(error)}); see model.arguments") from error


def _package(name: str, remedy: str) -> ModuleType:
    root = name.split(".")[0]
    try:
        # first: of a missing package, the import of its submodule says something else
        importlib.import_module(root)
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == root:
            raise UsageError(f"{root} is not installed; {remedy}") from None
        raise UsageError(f"importing {root} failed ({error}); pip install {error.name}") from None
    except Exception as error:
        raise UsageError(f"importing {root} failed ({_line(error)}); {remedy}") from error


@contextmanager
def _autoattack_by_its_old_name() -> Iterator[None]:
    """Let `import autoattack` find `pyautoattack` while somebody's package is imported."""
    if "autoattack" in sys.modules or importlib.util.find_spec("autoattack") is not None:
        yield
        return
    for name in ("pyautoattack", "pyautoattack.state"):
        sys.modules[name.removeprefix("py")] = importlib.import_module(name)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "autoattack"]:
            del sys.modules[name]


@contextmanager
def _data_only() -> Iterator[None]:
    """Whatever `torch.load` is asked meanwhile, it runs no code from a file."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _floats(values: Any, key: str, spec: InputSpec) -> tuple[float, ...]:
    if not spec.shape:
        raise DataError(f"{key}: the data have no channels")
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise UsageError(f"{key}={values}: expected a list of numbers, one a channel") from None
    if len(numbers) not in (1, spec.shape[0]):
        raise UsageError(f"{key}: {len(numbers)} numbers for {spec.shape[0]} channels")
    return numbers


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__
