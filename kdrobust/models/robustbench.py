"""Models of RobustBench's zoo, loaded beside the packages it declares but cannot import."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models.state import one_line

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
            f"model.robustbench={name}: RobustBench has no such model for {dataset} and {threat} ({one_line(error)})"
        ) from None
    except Exception as error:
        place = Path(folder) / dataset / threat / f"{name}.pt"
        raise CheckpointError(
            f"model.robustbench={name}: not loaded ({one_line(error)}); its weights belong in {place}"
        ) from None
    return model


def _package(name: str, remedy: str) -> ModuleType:
    root = name.split(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # first: of a missing package, the import of its submodule says something else
            importlib.import_module(root)
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == root:
            raise UsageError(f"{root} is not installed; {remedy}") from None
        raise UsageError(f"importing {root} failed ({error}); pip install {error.name}") from None
    except Exception as error:
        raise UsageError(f"importing {root} failed ({one_line(error)}); {remedy}") from error


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
