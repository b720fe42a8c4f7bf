"""Attacks that a library offers by name: found, their options checked, and run in batches."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdrobust.attacks.external.base import ExternalAttack, Found
from kdrobust.attacks.external.guard import Facade, condensed, hushed, overheard
from kdrobust.attacks.partial import Partial
from kdrobust.attacks.threat import Threat
from kdrobust.config.numbers import as_number
from kdrobust.errors import UsageError

#: What libraries say about their own future: nothing a result should carry.
_PLANS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def load_library(package: str, install: str) -> ModuleType:
    """Import a library that kdrobust runs without.

    Args:
        package: what to import.
        install: the command that installs it.

    Raises:
        UsageError: it is not installed, or its import fails.
    """
    root = package.split(".")[0]
    try:
        with hushed():
            # first: of a missing package, the import of its submodule says something else
            importlib.import_module(root)
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == root:
            raise UsageError(f"{root} is not installed; {install}") from None
        if error.name is not None and error.name.startswith(f"{root}."):
            raise UsageError(
                f"the installed {root} has no {error.name}: another package of that name? {install}"
            ) from None
        raise UsageError(f"importing {root} failed ({_line(error)}); pip install {error.name}") from None
    except Exception as error:
        raise UsageError(f"importing {root} failed ({type(error).__name__}: {_line(error)}); {install}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


class LibraryAttack(ExternalAttack):
    """An attack of a library, by the name it has there.

    Args:
        threat: norm, ε and pixels in [0, 1]. ε is handed on where the attack takes one; an attack that takes none
            (minimum norm) is projected on the ball like every other.
        name: the class in the library.
        options: further arguments of its constructor; texts such as `2/255` are numbers.
        batch_size: samples a batch.

    Raises:
        ValueError: the library has no such attack, or the attack does not take an option.
        UsageError: the library is not installed.
    """

    #: The module that holds the attacks, and the command that installs it.
    module: ClassVar[str]
    install: ClassVar[str]
    #: Arguments that are not the user's to give, and where they come from instead.
    reserved: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, *, threat: Threat, name: str, options: Mapping[str, Any] | None = None, batch_size: int = 250
    ) -> None:
        super().__init__(threat=threat, batch_size=batch_size)
        self.name = name
        self.options = {key: _number(value) for key, value in (options or {}).items()}
        holder = load_library(self.module, self.install)
        self.library = importlib.import_module(self.module.split(".")[0])
        self.factory = self._find(holder, name)
        self.accepts = _accepted(self.factory)
        for key in self.options:
            if key in self.reserved:
                raise ValueError(f"options: {key!r} comes from {self.reserved[key]}; leave it out")
            if self.accepts is not None and key not in self.accepts:
                near = difflib.get_close_matches(key, self.accepts, n=3)
                known = ", ".join(near or sorted(set(self.accepts) - set(self.reserved)))
                raise ValueError(f"options: {name} takes no {key!r}; near: {known}")

    @abstractmethod
    def perturb(self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int) -> Tensor:
        """The library's x' for one batch, [B, ...]; arguments as in `search`."""

    def search(
        self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int, seed: int, partial: Partial | None = None
    ) -> Found:
        """Batch after batch; see `ExternalAttack.search`."""
        pieces = zip(torch.split(inputs, self.batch_size), torch.split(labels, self.batch_size), strict=True)
        with hushed(), overheard(self.library.__name__) as lines, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = torch.cat([self.perturb(model, x, y, classes=classes).detach() for x, y in pieces])
        lines += [" ".join(str(each.message).split()) for each in said if not issubclass(each.category, _PLANS)]
        return Found(adversarial=found, notes=condensed(lines))

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, for result files."""
        library = f"{self.library.__name__} {getattr(self.library, '__version__', 'of unknown version')}"
        return {
            "attack": f"{self.name} ({library})",
            "library": library,
            "threat": self.threat.describe(),
            "name": self.name,
            "options": dict(self.options),
            "batch_size": self.batch_size,
        }

    def taken(self, **offered: Any) -> dict[str, Any]:
        """Those of the offered arguments that the attack's constructor takes, with the user's options."""
        fitting = {key: value for key, value in offered.items() if self.accepts is not None and key in self.accepts}
        return {**fitting, **self.options}

    def _find(self, holder: ModuleType, name: str) -> Callable[..., Any]:
        found = getattr(holder, name, None)
        if not inspect.isclass(found):
            names = [key for key, value in vars(holder).items() if inspect.isclass(value) and not key.startswith("_")]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise ValueError(f"name: {self.module} has no attack {name!r}{hint}")
        return found


def _accepted(factory: Callable[..., Any]) -> list[str] | None:
    """Names of a constructor's arguments; None where it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return as_number(value)
    except ValueError:
        return value
