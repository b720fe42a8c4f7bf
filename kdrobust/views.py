"""Views: every model's outputs on every version of a batch, each computed once, when first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.attacks.kernels import climbed
from kdrobust.data.batch import Batch
from kdrobust.losses.numerics import lift
from kdrobust.models import FeatureTaps


class Views:
    """The outputs a loss may read. A method that never names teacher-on-adversarial never pays for it.

    Args:
        student: the model being trained; its outputs carry a graph.
        teachers: name to frozen model; their outputs carry none.
        batch: the batch; teacher outputs it already holds are used as they are, and new ones are left there for whoever
            asks next (the attack and the objective share one teacher forward).
        partners: name to model that is trained beside the student; their outputs carry a graph.
        teacher_precision: the form in which a teacher answers where its logits alone are asked for, see
            `kdrobust.attacks.kernels.climbed`.
        taps: (model, view) to the module paths whose outputs are collected when that model answers on that view.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        batch: Batch,
        *,
        partners: Mapping[str, nn.Module] | None = None,
        taps: Mapping[tuple[str, str], Sequence[str]] | None = None,
        teacher_precision: str = "exact",
    ) -> None:
        self.teachers = teachers
        self.batch = batch
        self._trained: dict[str, nn.Module] = {"student": student, **dict((partners or {}).items())}
        self._taps = taps or {}
        self._precision = teacher_precision
        self._computed: dict[str, Tensor] = {}

    @property
    def labels(self) -> Tensor:
        """True classes, [B] int64."""
        return self.batch.labels

    @property
    def survived(self) -> Tensor:
        """Steps of the inner attack that each sample withstood, [B].

        Raises:
            ValueError: no attack has counted them.
        """
        if self.batch.survived is None:
            raise ValueError("a weight asks how long each sample withstood the attack, but none has run on this batch")
        return self.batch.survived

    def inputs(self, view: str) -> Tensor:
        """The inputs of a view: `clean` x, `adversarial` x', or `mirror` 2x - x', each [B, *shape].

        Raises:
            ValueError: no attack has run on this batch, or an unknown view.
        """
        if view == "clean":
            return self.batch.inputs
        if self.batch.adversarial is None:
            raise ValueError(f"view {view!r} asked for, but no attack has crafted this batch's adversarial inputs")
        if view == "adversarial":
            return self.batch.adversarial
        if view == "mirror":
            return 2.0 * self.batch.inputs - self.batch.adversarial
        raise ValueError(f"unknown view {view!r}; there are clean, adversarial and mirror")

    def computed(self, model: str, view: str) -> Tensor | None:
        """Detached logits that somebody has asked for already, or None."""
        key = f"{model}.{view}"
        logits = self._computed.get(key) if model in self._trained else self.batch.outputs.get(key)
        return None if logits is None else logits.detach()

    def logits(self, model: str, view: str) -> Tensor:
        """Logits of `student`, of a partner or of a teacher on a view, [B, K].

        Raises:
            ValueError: a teacher nobody loaded, or a view that is not there.
        """
        key = f"{model}.{view}"
        if model in self._trained:
            if key not in self._computed:
                self._computed |= self._answer(self._trained[model], model, view)
            return self._computed[key]
        if key not in self.batch.outputs:
            with torch.no_grad():
                self.batch.outputs |= self._answer(self._teacher(model, key), model, view)
        return self.batch.outputs[key]

    def features(self, model: str, view: str, path: str) -> Tensor:
        """What one of a model's modules put out when the model answered on a view, [B, ...].

        Raises:
            ValueError: a path that was not announced in `taps`, a teacher nobody loaded, or a view that is not there.
        """
        if path not in self._taps.get((model, view), ()):
            raise ValueError(f"{model}.{view}:{path} asked for, but it is not among the announced taps")
        held = self._computed if model in self._trained else self.batch.outputs
        key = f"{model}.{view}:{path}"
        if key not in held:
            # logits that were stored beforehand came without features: the model has to answer once more
            held.pop(f"{model}.{view}", None)
            self.logits(model, view)
        return held[key]

    def input_gradient(self, model: str, view: str) -> Tensor:
        """Gradient of a model's cross-entropy to a view's pixels, [B, *shape]; the student's has a graph.

        Raises:
            ValueError: a teacher nobody loaded, or a view that is not there.
        """
        key = f"{model}.{view}:input_gradient"
        held = self._computed if model in self._trained else self.batch.outputs
        if key not in held:
            trained = model in self._trained
            network = self._trained[model] if trained else self._teacher(model, f"{model}.{view}")
            graph = trained and torch.is_grad_enabled()
            pixels = self.inputs(view).detach().clone().requires_grad_(True)
            with torch.enable_grad():
                logits = network(pixels)
                loss = F.cross_entropy(lift(logits), self.labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, pixels, create_graph=graph)
            held[key] = gradient if trained else gradient.detach()
            if trained:
                self._computed.setdefault(f"{model}.{view}", logits)
        return held[key]

    def _teacher(self, model: str, key: str) -> nn.Module:
        if model not in self.teachers:
            raise ValueError(f"{key} asked for, but no teacher of that name is loaded or stored")
        return self.teachers[model]

    def _answer(self, network: nn.Module, model: str, view: str) -> dict[str, Tensor]:
        paths = self._taps.get((model, view), ())
        key = f"{model}.{view}"
        if not paths:
            inputs = self.inputs(view)
            # a frozen model answers in eval mode, the only one that the fast forms know
            frozen = model not in self._trained and not network.training
            return {key: (climbed(network, self._precision, inputs) if frozen else network)(inputs)}
        with FeatureTaps(network, paths) as taps:
            logits = network(self.inputs(view))
        return {key: logits, **{f"{key}:{path}": taps.outputs[path] for path in paths}}
