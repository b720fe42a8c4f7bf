"""What each slot of a config takes: components of one kind, from the packages that have them, and nothing else."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from kdrobust.config.annotations import members, parameter_types
from kdrobust.config.targets import LIBRARIES, below, locate, refuse
from kdrobust.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a slot takes.

    Attributes:
        label: what it is, with its article: `an optimizer`.
        bases: classes, by name, one of which a component is a subclass of; a protocol asks for its methods.
        packages: where its classes lie; the user's trusted packages are added.
        functions: functions that make one, or are one, by name.
        makers: packages whose functions make one where their return annotation says so; so do the user's.
        any_function: whether a function of the user's needs no such annotation.
    """

    label: str
    bases: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    any_function: bool = False

    def find(self, path: Any, trusted: Sequence[str] = ()) -> Any:
        """The class or function that a `_target_` names.

        What lies elsewhere is refused by its name, and not imported.

        Args:
            path: the value of `_target_`.
            trusted: the user's own packages.

        Raises:
            UsageError: not of this kind, not importable, or no such name; without the config key.
        """
        allowed = (*self.packages, *self.functions, *self.makers, *trusted)
        reason = refuse(path, allowed)
        if reason is not None:
            raise UsageError(f"{reason}; {self.takes()}{_own_package(path)}")
        found = locate(path, allowed)
        if not self._holds(found, path, trusted):
            raise UsageError(f"{path} is not {self.label}; {self.takes()}")
        return found

    def takes(self) -> str:
        """The kind in words, for refusals."""
        where = ", ".join([*self.packages, *self.functions, *self.makers])
        return f"this key takes {self.label}" + (f" ({where})" if where else "")

    def _holds(self, found: Any, path: str, trusted: Sequence[str]) -> bool:
        if path in self.functions:
            return True
        if inspect.isclass(found):
            return not inspect.isabstract(found) and any(_is_one(found, base) for base in self._bases())
        if not inspect.isfunction(found) or not below(path, (*self.makers, *trusted)):
            return False
        if self.any_function and below(path, trusted):
            return True
        made = parameter_types(found).get("return")
        return inspect.isclass(made) and any(_is_one(made, base) for base in self._bases())

    def _bases(self) -> list[type]:
        return [_named(base) for base in self.bases]


def _named(base: str) -> type:
    module, _, name = base.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _is_one(found: type, base: type) -> bool:
    if not getattr(base, "_is_protocol", False):
        return issubclass(found, base)
    methods = [name for name, value in vars(base).items() if inspect.isfunction(value) and name != "__init__"]
    methods = [name for name in methods if name != "__subclasshook__" and name != "_no_init_or_replace_init"]
    own = {name for each in found.__mro__[:-1] for name in vars(each)}
    return not getattr(found, "_is_protocol", False) and own.issuperset(methods)


def _own_package(path: Any) -> str:
    root = str(path).split(".")[0]
    strange = root in LIBRARIES or root in sys.stdlib_module_names or not root.isidentifier()
    return "" if strange else f" (your own package: trusted_modules=[{root}])"


THREAT = Kind(label="a threat model", bases=("kdrobust.attacks.Threat",), packages=("kdrobust.attacks",))
TRAINING_ATTACK = Kind(
    label="an attack of a training",
    bases=("kdrobust.attacks.GradientAttack", "kdrobust.attacks.NoAttack"),
    packages=("kdrobust.attacks",),
)
ATTACK = Kind(label="an attack", bases=("kdrobust.evaluation.suite.Attack",), packages=("kdrobust.attacks",))
JOINT_ATTACK = Kind(
    label="an attack on classifier and detector",
    bases=("kdrobust.attacks.JointAttack",),
    packages=("kdrobust.attacks",),
)
GOAL = Kind(
    label="an attack's goal",
    functions=tuple(
        f"kdrobust.attacks.goals.{name}"
        for name in ("kl_to_clean", "kl_to_teacher", "kl_to_live_teacher", "kl_to_linear_teacher")
    ),
    any_function=True,
)
CALLBACK = Kind(
    label="a callback",
    bases=("pytorch_lightning.Callback",),
    packages=("pytorch_lightning.callbacks", "kdrobust.modules", "kdrobust.attacks"),
)
LOGGER = Kind(
    label="a logger",
    bases=("pytorch_lightning.loggers.Logger",),
    packages=("pytorch_lightning.loggers", "kdrobust.tracking"),
)
OPTIMIZER = Kind(label="an optimizer", bases=("torch.optim.Optimizer",), packages=("torch.optim", "timm.optim"))
SCHEDULER = Kind(
    label="a learning rate scheduler",
    bases=("torch.optim.lr_scheduler.LRScheduler",),
    packages=("torch.optim.lr_scheduler",),
    functions=("kdrobust.modules.multistep",),
)
TRAINER = Kind(label="a trainer", bases=("pytorch_lightning.Trainer",), packages=("pytorch_lightning.Trainer",))
STRATEGY = Kind(
    label="a strategy",
    bases=("pytorch_lightning.strategies.Strategy",),
    packages=("pytorch_lightning.strategies", "kdrobust.distributed"),
)
ACCELERATOR = Kind(
    label="an accelerator",
    bases=("pytorch_lightning.accelerators.Accelerator",),
    packages=("pytorch_lightning.accelerators",),
)
PROFILER = Kind(
    label="a profiler",
    bases=("pytorch_lightning.profilers.Profiler",),
    packages=("pytorch_lightning.profilers",),
)
DATA = Kind(label="a data module", bases=("kdrobust.data.DataModule",), packages=("kdrobust.data",))
SOURCE = Kind(
    label="a data source",
    bases=("kdrobust.data.arrays.Source",),
    packages=("kdrobust.data", "kdrobust.detection.pairs"),
)
AUGMENTATION = Kind(label="an augmentation", bases=("kdrobust.data.augmentation.Augment",), packages=("kdrobust.data",))
RECORDINGS = Kind(
    label="what fetches recordings", bases=("kdrobust.data.spoken_words.Recordings",), packages=("kdrobust.data",)
)
TRANSFORM = Kind(label="a transform", bases=("torch.nn.Module",), packages=("kdrobust.transforms",))
NETWORK = Kind(label="a network", bases=("torch.nn.Module",), packages=("kdrobust.models",))
#: Of which networks of the user's own are made.
MODULE = Kind(label="a module", bases=("torch.nn.Module",), packages=("torch.nn", "kdrobust.models"))
#: What a model is imported as, from the command line.
IMPORTED_MODEL = Kind(
    label="a model, or a function that makes one",
    bases=("torch.nn.Module",),
    packages=("torch.nn", "kdrobust.models"),
    makers=("torchvision.models",),
    any_function=True,
)

KINDS = (
    THREAT, TRAINING_ATTACK, ATTACK, JOINT_ATTACK, GOAL, CALLBACK, LOGGER, OPTIMIZER, SCHEDULER, TRAINER, STRATEGY,
    ACCELERATOR, PROFILER, DATA, SOURCE, AUGMENTATION, RECORDINGS, TRANSFORM, NETWORK, MODULE,
    IMPORTED_MODEL,
)  # fmt: skip

#: What a stage's keys take; `*` is any name.
SLOTS: dict[str, Kind] = {
    "threat": THREAT,
    "attack": TRAINING_ATTACK,
    "callbacks.*": CALLBACK,
    "logger.*": LOGGER,
    "optimizer": OPTIMIZER,
    "scheduler.factory": SCHEDULER,
    "trainer": TRAINER,
    "data": DATA,
    "network": NETWORK,
    "student.network": NETWORK,
    "teacher.network": NETWORK,
    "teachers.*.network": NETWORK,
    "partners.*.network": NETWORK,
    "teacher.transform": TRANSFORM,
    "teachers.*.transform": TRANSFORM,
    "evaluation.attacks.*": ATTACK,
    "evaluation.transfer.*": ATTACK,
    "evaluation.adaptive": JOINT_ATTACK,
}
#: What is written of other configs, and has their slots: a teacher's training, what follows from a config.
_NESTED = (
    re.compile(r"^(teacher_training|natural_training|baseline)\."),
    re.compile(r"^derived\.(teachers|jobs)\.[^.]+\."),
)
_RUNGS = re.compile(r"^derived\.rungs\[\d+\]\.(?!threat$)")
_RUNG_THREAT = re.compile(r"^derived\.rungs\[\d+\]\.(?=threat$)")
_PATTERNS = {re.compile(re.escape(key).replace(r"\*", r"[^.]+")): kind for key, kind in SLOTS.items()}

#: What the parameters of other packages' classes take beside plain values.
_FOREIGN = {
    ("pytorch_lightning.Trainer", "strategy"): STRATEGY,
    ("pytorch_lightning.Trainer", "accelerator"): ACCELERATOR,
    ("pytorch_lightning.Trainer", "profiler"): PROFILER,
}
#: By the class that a parameter of ours, or of the user's, is annotated with.
_ANNOTATED = {
    "kdrobust.attacks.threat.Threat": THREAT,
    "kdrobust.attacks.gradient.GradientAttack": TRAINING_ATTACK,
    "kdrobust.attacks.none.NoAttack": TRAINING_ATTACK,
    "kdrobust.attacks.cascade.Member": ATTACK,
    "kdrobust.evaluation.suite.Attack": ATTACK,
    "kdrobust.detection.crafting.Attack": ATTACK,
    "kdrobust.data.module.DataModule": DATA,
    "kdrobust.data.arrays.Source": SOURCE,
    "kdrobust.data.augmentation.Augment": AUGMENTATION,
    "kdrobust.data.spoken_words.Recordings": RECORDINGS,
    "torch.nn.modules.module.Module": MODULE,
}


def slot(key: str) -> Kind | None:
    """What a dotted key of a config takes; None where nothing is built.

    Args:
        key: as `callbacks.best`, `derived.rungs[0].attacks.pgd20`.
    """
    for _ in range(8):
        shorter = key
        for pattern in _NESTED:
            shorter = pattern.sub("", shorter)
        shorter = _RUNG_THREAT.sub("", _RUNGS.sub("evaluation.", shorter))
        if shorter == key:
            break
        key = shorter
    return next((kind for pattern, kind in _PATTERNS.items() if pattern.fullmatch(key)), None)


def argument(target: Any, name: str, trusted: Sequence[str] = ()) -> Kind | None:
    """What a parameter of a class or function takes beside plain values; None where it takes none but these.

    Args:
        target: what `Kind.find` gave.
        name: of the parameter.
        trusted: the user's own packages.
    """
    home = f"{target.__module__}.{target.__qualname__}"
    if not below(home, ("kdrobust", *trusted)):
        return next(
            (kind for (path, parameter), kind in _FOREIGN.items() if parameter == name and _named(path) is target), None
        )
    hints = parameter_types(target)
    if name not in hints and below(home, trusted):
        # what a user has not annotated is of what networks are made of
        return MODULE
    for hint in _leaves(hints.get(name)):
        if get_origin(hint) is collections.abc.Callable:
            return _callable(hint)
        if inspect.isclass(hint):
            path = f"{hint.__module__}.{hint.__qualname__}"
            if path in _ANNOTATED:
                return _ANNOTATED[path]
            if below(path, trusted):
                return Kind(label=f"a {hint.__name__}", bases=(path,))
    return None


def _callable(hint: Any) -> Kind:
    made = get_args(hint)[-1]
    return TRANSFORM if inspect.isclass(made) and issubclass(made, _named("torch.nn.Module")) else GOAL


def _leaves(hint: Any) -> Iterator[Any]:
    """The classes an annotation names: of a union its members, of lists and mappings what they hold."""
    for option in members(hint):
        origin = get_origin(option)
        if origin is not None and origin is not collections.abc.Callable and inspect.isclass(origin):
            for inner in get_args(option):
                yield from _leaves(inner)
        else:
            yield option
