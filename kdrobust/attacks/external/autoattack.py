"""The official AutoAttack, as published in the package `pyautoattack`, with its side effects kept inside."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor

from kdrobust.attacks.external.base import ExternalAttack, Found
from kdrobust.attacks.external.guard import Facade, condensed, overheard
from kdrobust.attacks.external.library import load_library
from kdrobust.attacks.partial import Partial, pack_notes, unpack_notes
from kdrobust.attacks.threat import Threat
from kdrobust.errors import AttackError

#: What each version runs, in this order, each on the samples that the ones before it left standing.
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
#: What the numbers in `broken_by` stand for; the same for every version.
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square", "apgd-dlr", "fab")
#: Fewest classes for which a loss is defined: it looks at the third or fourth largest logit.
_LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
_NORMS = {"linf": "Linf", "l2": "L2"}
_TARGETS = 9
#: What is kept a sample after each attack.
_KEPT = ("adversarial", "broken_by", "standing")
#: Share of the samples beyond which AutoAttack's authors distrust a model that Square still breaks.
_SQUARE_SUSPECT = 0.002

log = logging.getLogger("kdrobust")


class AutoAttack(ExternalAttack):
    """The official AutoAttack: the figure that robustness papers report.

    `standard` is APGD on cross-entropy, targeted APGD on DLR, targeted FAB and Square, 7,888 forward and 1,910 backward
    passes a robust sample of ten classes. `plus` adds untargeted APGD-DLR and FAB and five restarts; `rand`, for models
    that draw when they answer, averages gradients over 20 passes. The search is the published code, unchanged; its
    figure depends on the batch size, and where several processes share the samples on their number.

    Of fewer than ten classes all others are targets. Of three, targeted DLR is not defined: `standard` runs untargeted
    APGD-DLR in its place; of two neither is. Both is said in a note, and such a figure is not AutoAttack's standard
    one. Where the model answers clean samples wrongly they are left alone.

    `extra["broken_by"]` is the place in `describe()["broken_by"]` of the attack that broke the sample, -1 where none
    did. AutoAttack's own warnings are the result's notes.

    Args:
        threat: ℓ∞ or ℓ2, pixels in [0, 1].
        version: `standard`, `plus` or `rand`.
        batch_size: samples a batch; the authors' default is 250.

    Raises:
        ValueError: an unknown version, other pixel bounds, or a batch size below 1.
        UsageError: `pyautoattack` is not installed.

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", ICML 2020, arXiv:2003.01690.
    """

    #: A suite keeps what each attack has found.
    resumable = True

    def __init__(self, *, threat: Threat, version: str = "standard", batch_size: int = 250) -> None:
        super().__init__(threat=threat, batch_size=batch_size)
        if version not in VERSIONS:
            raise ValueError(f"version: AutoAttack has no {version!r}; there are {', '.join(VERSIONS)}")
        self.version = version
        self._library = load_library("pyautoattack", "pip install 'pyautoattack>=0.2,<0.3'")

    def describe(self) -> dict[str, Any]:
        """All settings as plain values; `broken_by` names what the numbers of that name stand for."""
        return {
            "attack": type(self).__name__,
            "library": f"pyautoattack {self._library.__version__}",
            "threat": self.threat.describe(),
            "version": self.version,
            "attacks": list(VERSIONS[self.version]),
            "batch_size": self.batch_size,
            "broken_by": list(ATTACKS),
        }

    def search(
        self, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int, seed: int, partial: Partial | None = None
    ) -> Found:
        """Run the official code, one attack after the other on what still stands; see `ExternalAttack.search`.

        The official driver does the same in one call, but cannot give back the examples of attacks that an interrupted
        call had finished.
        """
        names, notes = runnable(self.version, classes)
        warned = dict.fromkeys(notes)
        adversarial, broken_by = inputs.clone(), torch.full_like(labels, -1)
        standing = self._right(model, inputs, labels)
        right, done = int(standing.sum()), 0
        kept = None if partial is None else partial.load()
        if kept is not None:
            adversarial, broken_by, standing = (kept[key].to(inputs.device) for key in _KEPT)
            done, warned = int(kept["done"]), dict.fromkeys(unpack_notes(kept["notes"]))
        began = time.perf_counter()
        for place, name in enumerate(names):
            rows = torch.nonzero(standing).flatten()
            if place < done or not len(rows):
                continue
            found, warnings = self._official(name, model, inputs[rows], labels[rows], classes=classes, seed=seed)
            broken = ~self._right(model, found, labels[rows])
            adversarial[rows[broken]], broken_by[rows[broken]] = found[broken], ATTACKS.index(name)
            standing[rows[broken]] = False
            if name == "square" and place and int(broken.sum()) > _SQUARE_SUSPECT * len(inputs):
                warnings.append(
                    f"Square broke {int(broken.sum())} of {len(inputs)} samples that withstood gradients: the model "
                    "may mask them"
                )
            warned |= dict.fromkeys(condensed(warnings))
            seconds = time.perf_counter() - began
            log.info("autoattack  %s  %d of %d stand  %.0fs", name, int(standing.sum()), right, seconds)
            if partial is not None:
                values = dict(zip(_KEPT, (adversarial, broken_by, standing), strict=True))
                partial.save({**values, "done": torch.tensor(place + 1), "notes": pack_notes(warned)})
        return Found(adversarial=adversarial, extra={"broken_by": broken_by}, notes=tuple(warned))

    def _official(
        self, name: str, model: Facade, inputs: Tensor, labels: Tensor, *, classes: int, seed: int
    ) -> tuple[Tensor, list[str]]:
        """One attack by the published driver: x', and what it warned of."""
        from pyautoattack import checks

        # the counters behind "dynamic defense" are never reset: one such model would have every later one accused
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))
        with overheard("auto-attack") as warnings:
            official = self._library.AutoAttack(
                model,
                device=inputs.device,
                eps=self.threat.radius,
                norm=_NORMS[self.threat.norm],
                seed=seed,
                version=self.version,
            )
            official.attacks_to_run = [name]
            official.apgd_targeted.n_target_classes = min(_TARGETS, classes - 1)
            official.fab.n_target_classes = min(_TARGETS, classes - 1)
            # Square needs images; the facade gives the model back the shape it knows
            found, _ = official.run_standard_evaluation(_as_images(inputs), labels, batch_size=self.batch_size)
        return found.reshape(inputs.shape), list(warnings)

    def _right(self, model: Facade, inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            pieces = zip(inputs.split(self.batch_size), labels.split(self.batch_size), strict=True)  # type: ignore[no-untyped-call]
            return torch.cat([model(piece).argmax(dim=1) == truth for piece, truth in pieces])


def runnable(version: str, classes: int) -> tuple[tuple[str, ...], list[str]]:
    """The attacks of a version that are defined for so many classes, and a note where that changes them.

    Args:
        version: one of `VERSIONS`.
        classes: K.

    Raises:
        AttackError: one class only.
    """
    if classes < 2:
        raise AttackError("AutoAttack: the model has one class, nothing can be broken; check the model")
    wanted = VERSIONS[version]
    missing = [name for name in wanted if classes < _LEAST_CLASSES.get(name, 2)]
    if not missing:
        return wanted, []
    stand_in = "apgd-dlr" if classes >= _LEAST_CLASSES["apgd-dlr"] else None
    names = [stand_in if name in missing else name for name in wanted]
    kept = tuple(dict.fromkeys(name for name in names if name is not None))
    needs = ", ".join(f"{name} needs {_LEAST_CLASSES[name]} classes" for name in missing)
    return kept, [
        f"{needs}, there are {classes}: ran {', '.join(kept)}, which is not AutoAttack's {version} version; say so "
        "beside the figure"
    ]


def _as_images(inputs: Tensor) -> Tensor:
    if inputs.dim() == 4:
        return inputs
    return inputs.flatten(1)[:, None, None, :] if inputs.dim() != 3 else inputs.unsqueeze(1)
