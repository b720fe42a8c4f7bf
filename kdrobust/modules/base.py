"""What training a teacher and distilling a student share: one step, one validation, one checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kdrobust.attacks import GradientAttack, NoAttack
from kdrobust.attacks.undisturbed import seed_generators
from kdrobust.data.batch import Batch
from kdrobust.distributed import shard_frozen
from kdrobust.errors import KdrobustError
from kdrobust.losses import Objective, ObjectiveResult
from kdrobust.modules.means import EpochMeans
from kdrobust.modules.metrics import MeanOrZero
from kdrobust.modules.steps import is_over
from kdrobust.randomness import address
from kdrobust.views import Views

_TERM = "train/terms/"
#: Steps between two looks at the loss where each look waits for the device.
_LOOK_EVERY = 50


class TrainingError(KdrobustError):
    """Training that cannot go on: a loss that is not finite."""


def terms_of(names: Sequence[str]) -> str:
    """The terms among the names of a step's figures, as a message says them."""
    return ", ".join(name.removeprefix(_TERM) for name in names if name.startswith(_TERM)) or "their sum"


class RobustModule(pl.LightningModule):
    """A model, an objective, and the little around them.

    Args:
        model: the classifier being trained; inputs in [0, 1], logits out.
        objective: the method's loss.
        optimizer: makes the optimiser from the model's parameters.
        scheduler: mapping with `factory` (makes the scheduler from the optimiser; `total_steps` is supplied if it has
            such a parameter), `interval` (`epoch` or `step`) and `monitor` (a logged metric, or None). None: constant.
        seed: the address of this run's attack starts.
        payload: what the checkpoint says about the model, see `kdrobust.models.checkpoint`.
        teachers: name to frozen model. They are no part of this module: not in its parameters, not in its checkpoint.
        partners: name to model that is trained beside the student, by the terms that read it.
        teacher_precision: the form in which teachers answer a training batch, see `kdrobust.attacks.kernels.climbed`;
            validation asks the models themselves.
        labelled: whether training and validation samples have labels. Without, an attack climbs away from the teacher's
            answer on x instead, and nothing is logged that compares with labels.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Mapping[str, Any] | None = None,
        seed: int = 0,
        payload: Mapping[str, Any] | None = None,
        teachers: Mapping[str, nn.Module] | None = None,
        partners: Mapping[str, nn.Module] | None = None,
        teacher_precision: str = "exact",
        labelled: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.seed = seed
        self.payload = dict(payload or {})
        if not objective.needs_attack and "threat" in self.payload:
            # the config's threat is then only what validation measured
            self.payload["threat"] = {}
        self._optimizer = optimizer
        self._scheduler = scheduler
        # a plain dict keeps the teachers out of parameters(), state_dict() and DDP
        self.teachers: dict[str, nn.Module] = dict(teachers or {})
        self.partners = nn.ModuleDict(dict(partners or {}))
        self.teacher_precision = teacher_precision
        self.labelled = labelled
        self.means = EpochMeans()
        #: False where a callback decides, see `NonFinite`.
        self.stops_at_nonfinite = True
        self.metrics = nn.ModuleDict({name: MeanOrZero() for name in self.metric_names()})

    def metric_names(self) -> tuple[str, ...]:
        """Validation metrics, logged as `val/<name>`: shares in [0, 1]."""
        return ("accuracy", "robust_accuracy") if self.labelled else ()

    def configure_optimizers(self) -> Any:
        """The optimiser, and the scheduler in Lightning's form.

        A partner's parameters, and those of the objective (adapters, learnt temperatures), are groups of their own in
        one optimiser: rules that treat each parameter by itself take the same steps as with an optimiser a model.
        """
        groups = [self.model, self.objective, *self.partners.values()]
        trained = [[p for p in group.parameters() if p.requires_grad] for group in groups]
        trained = [parameters for parameters in trained if parameters]
        single = len(trained) == 1
        optimizer = self._optimizer(params=trained[0] if single else [{"params": group} for group in trained])
        if not self._scheduler:
            return optimizer
        factory = self._scheduler["factory"]
        late = {"total_steps": int(self.trainer.estimated_stepping_batches)}
        accepted = inspect.signature(factory).parameters
        scheduler = factory(optimizer, **{key: value for key, value in late.items() if key in accepted})
        settings = {"scheduler": scheduler, "interval": self._scheduler.get("interval", "epoch")}
        if self._scheduler.get("monitor"):
            settings["monitor"] = self._scheduler["monitor"]
            if str(settings["monitor"]).startswith("val/"):
                # an epoch that is not validated has nothing to say about a plateau
                settings["frequency"] = self.trainer.check_val_every_n_epoch
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def on_fit_start(self) -> None:
        """Bring the teachers to the student's device, frozen; in shares where the strategy says so."""
        shard = getattr(self.trainer.strategy, "shard_teachers", False)
        for teacher in self.teachers.values():
            teacher.eval().requires_grad_(False)
            if shard:
                shard_frozen(teacher, self.device)
            else:
                teacher.to(self.device)

    def on_validation_start(self) -> None:
        """As `on_fit_start`, for a validation outside of fit."""
        self.on_fit_start()

    @property
    def exact_epoch(self) -> float:
        """The epoch with its fraction: 1.5 half-way through the second one."""
        trainer = self._trainer
        if trainer is None or not trainer.num_training_batches:
            return 0.0
        return float(self.current_epoch) + float(trainer.fit_loop.batch_idx) / float(trainer.num_training_batches)

    def craft(
        self,
        attack: GradientAttack | NoAttack,
        batch: Batch,
        *,
        where: int,
        scale: float = 1.0,
        validate: bool = False,
        model: nn.Module | None = None,
    ) -> Tensor:
        """Attack the bare model (no DDP wrapper, so no communication) on a batch.

        Args:
            attack: what climbs.
            batch: the batch; the teacher's clean logits are left in it for the objective.
            where: address of the random starts beside seed and sample, e.g. the epoch.
            scale: factor on ε and step, in [0, 1] (warm-up).
            validate: check the batch against the attack's contract first; costs a host synchronisation.
            model: attack this one instead, e.g. an average of the weights.

        Returns:
            x', [B, *shape], detached.
        """
        views = self.views(batch)
        name = self.objective.attack_model
        partner = self.partners[name] if name in self.partners else None  # noqa: SIM401 - a ModuleDict has no get
        return attack(
            self.model if model is None else model,
            batch.inputs,
            self.right_answers(batch, views),
            # a partner answers the attack in eval mode and without leaving a trace, so its answer is not the
            # objective's
            teacher=self.teachers.get(name) if partner is None else partner,
            teacher_logits=None if partner is not None else lambda: self.objective.attack_target(views),
            keys=batch.indices,
            seed=address(self.seed, "attack", where),
            scale=scale,
            validate=validate,
            survived=batch.survived,
        )

    @torch.no_grad()
    def right_answers(self, batch: Batch, views: Views | None = None) -> Tensor:
        """The classes a model should answer, [B]: the labels, or without them the teacher's answers on x."""
        if self.labelled:
            return batch.labels
        views = self.views(batch) if views is None else views
        return views.logits(self.objective.main_teacher, "clean").argmax(dim=1)

    def views(self, batch: Batch) -> Views:
        """What the objective may read of a batch."""
        return Views(
            self.model,
            self.teachers,
            batch,
            partners=self._partner_models(),
            taps=self.objective.taps,
            teacher_precision=self.teacher_precision if self.training else "exact",
        )

    def _partner_models(self) -> dict[str, nn.Module]:
        return dict(self.partners.items())

    def on_train_epoch_end(self) -> None:
        """Let the objective's statistics over the epoch take effect."""
        self.objective.end_epoch()
        # what a validation within the epoch has ended had no last batch to log them at
        self.log_dict(self.means.take(self.device), on_step=False, on_epoch=True, batch_size=1)

    def on_train_start(self) -> None:
        """Address what the first step's model draws, see `on_train_batch_end`."""
        self._address_draws()

    def _address_draws(self) -> None:
        # layers that draw (dropout) read torch's generators: a resumed run has to find them as they were
        seed_generators(self.device, address(self.seed, "step", self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective on one batch; every term is logged by the name its YAML gave it.

        Raises:
            TrainingError: the loss is NaN or infinite; where looking would wait for a GPU, told up to 50 steps later.
        """
        views = self.views(batch)
        result: ObjectiveResult = self.objective(views, self.exact_epoch)
        self._measure_step(result, views, batch)
        if self.stops_at_nonfinite and (self.device.type == "cpu" or batch_idx % _LOOK_EVERY == 0):
            self._look()
        return result.loss

    def _measure_step(self, result: ObjectiveResult, views: Views, batch: Batch) -> None:
        parts = result.parts
        figures = {"train/loss": result.loss.detach()}
        figures |= {f"train/terms/{name}": part.value for name, part in parts.items()}
        figures |= {f"train/weighted/{name}": part.contribution for name, part in parts.items()}
        numbers: dict[str, float] = {}
        for name, part in parts.items():
            weights: dict[str, Any] = figures if isinstance(part.weight, Tensor) else numbers
            weights[f"train/weights/{name}"] = part.weight
        for role, values in result.sample_weights.items():
            figures[f"train/sample_weight/{role}/mean"] = values.mean()
            figures[f"train/sample_weight/{role}/max"] = values.max()
            figures[f"train/sample_weight/{role}/std"] = values.std(unbiased=False)
        for view in ("clean", "adversarial"):
            logits = views.computed("student", view)
            if logits is not None and self.labelled:
                name = "accuracy" if view == "clean" else "robust_accuracy"
                figures[f"train/{name}"] = (logits.argmax(dim=1) == batch.labels).float().mean()
        dtype = torch.promote_types(result.loss.dtype, torch.float32)
        row = torch.stack([value.detach().to(dtype) for value in figures.values()])
        sizes = row[1 + len(parts) : 1 + 2 * len(parts)].abs()
        row = torch.cat([row, sizes / sizes.sum().clamp(min=1e-12)])
        names = [*figures, *(f"train/share/{name}" for name in parts)]
        self.means.add(self.global_step, names, row, numbers=numbers, weight=len(batch))

    def _look(self) -> None:
        found = self.means.first_nonfinite()
        if found is not None:
            step, names = found
            raise TrainingError(
                f"loss is not finite at step {step} (terms: {terms_of(names)}); lower optimizer.lr, set "
                "trainer.gradient_clip_val, or go on without such steps: callbacks.nonfinite.policy=skip"
            )
        self.means.settle()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the epoch's means after its last step, before validation and what reads them."""
        self._address_draws()
        if batch_idx + 1 >= self.trainer.num_training_batches or is_over(self.trainer):
            if self.stops_at_nonfinite:
                self._look()
            self.log_dict(self.means.take(self.device), on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Clean accuracy, and robust accuracy where a callback has set the batch's adversarial inputs."""
        views = self.views(batch)
        self.measure(views, batch)

    def measure(self, views: Views, batch: Batch) -> None:
        """Update and log the validation metrics of one batch."""
        if not self.labelled:
            return
        self.update("accuracy", views.logits("student", "clean").argmax(dim=1) == batch.labels)
        if batch.adversarial is not None:
            self.update("robust_accuracy", views.logits("student", "adversarial").argmax(dim=1) == batch.labels)

    def update(self, name: str, hits: Tensor) -> None:
        """Add samples' hits ([n] bool) to a metric and log it; torchmetrics reduces over processes."""
        metric = cast("MeanOrZero", self.metrics[name])
        if hits.numel():
            metric.update(hits.float())
        self.log(f"val/{name}", metric, on_step=False, on_epoch=True, batch_size=max(1, hits.numel()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what the model is, so that it can be rebuilt and refused where it does not fit."""
        checkpoint["kdrobust"] = self.payload
