"""Averaged weights: an exponential or stochastic average of the trained model, evaluated beside the raw one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrobust.attacks import GradientAttack, NoAttack, check_answers
from kdrobust.data.batch import Batch
from kdrobust.losses.collective import global_sum, is_distributed
from kdrobust.modules.checkpoint_file import checkpoint_content
from kdrobust.modules.validation import VALIDATION
from kdrobust.tracking import write_bytes

_MODES = ("ema", "swa")
_FIGURES = ("samples", "accuracy", "robust_accuracy")


def _mean(statistic: Tensor) -> Tensor:
    """Mean over the processes, the same on all of them; the value itself where there is one."""
    return global_sum(statistic) / dist.get_world_size() if is_distributed() else statistic


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """The model's floating-point buffers by name, as their mean over the processes; one reduction for all."""
    named = {name: value for name, value in model.named_buffers() if value.is_floating_point()}
    if not named or not is_distributed():
        return named
    whole = _mean(torch.cat([value.flatten() for value in named.values()]))
    parts = torch.split(whole, [value.numel() for value in named.values()])
    return {name: part.view_as(value) for (name, value), part in zip(named.items(), parts, strict=True)}


class AveragedWeights(pl.Callback):
    r"""Keeps an average of the model's weights and measures it at every validation, clean and under attack.

    `ema` moves $\bar w \leftarrow d\,\bar w + (1 - d)\,w$ after every step, the statistics of normalisation layers
    included (their mean over the processes). `swa` is the plain mean of the weights at the ends of the epochs from
    `begin` on; since no statistics belong to such a mean, those of batch norm are estimated anew before each
    validation, by one pass over the clean training inputs. The attack is made for the averaged weights themselves.
    Logged as `val/averaged/accuracy` and `val/averaged/robust_accuracy`; the best epoch by the latter is kept in
    `path`, in the form of any checkpoint.

    Args:
        mode: `ema` or `swa`.
        decay: d in [0, 1) of `ema`.
        begin: share of the training, in [0, 1), from which weights are averaged.
        attack: what robust accuracy is measured with.
        path: the checkpoint.

    Raises:
        ValueError: a value outside its range.

    Sources: Izmailov et al., UAI 2018, arXiv:1803.05407 (SWA); in adversarial training: Gowal et al. 2020,
    arXiv:2010.03593 (EMA), Chen et al., ICLR 2021 (SWA).
    """

    def __init__(
        self,
        *,
        attack: GradientAttack | NoAttack,
        path: str | Path,
        mode: str = "ema",
        decay: float = 0.999,
        begin: float = 0.0,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: expected ema or swa, got {mode!r}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay: expected a number in [0, 1), got {decay}")
        if not 0.0 <= begin < 1.0:
            raise ValueError(f"begin: expected a share of the training in [0, 1), got {begin}")
        self.attack = attack
        self.path = Path(path)
        self.mode = mode
        self.decay = decay
        self.begin = begin
        self.averaged: nn.Module | None = None
        self.count = 0
        self.best: dict[str, float] = {}
        self._restored: dict[str, Tensor] | None = None
        self._hits = torch.zeros(len(_FIGURES))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin with a copy of the model, or with what an interrupted run had."""
        self.averaged = copy.deepcopy(pl_module.model).eval().requires_grad_(False)
        if self._restored is not None:
            self.averaged.load_state_dict(self._restored)
            self._restored = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the weights in: each step's for `ema`, those at an epoch's end for `swa`."""
        if pl_module.exact_epoch < self.begin * (trainer.max_epochs or 1):
            return
        last = batch_idx + 1 == trainer.num_training_batches
        if self.mode == "ema":
            # the first steps are a plain mean: a start at random weights would outlive 1 / (1 - d) steps
            self._move(pl_module.model, max(1.0 - self.decay, 1.0 / (self.count + 1)))
        elif last:
            self._move(pl_module.model, 1.0 / (self.count + 1))
            self._reestimate(trainer, pl_module)

    @torch.no_grad()
    def _move(self, model: nn.Module, share: float) -> None:
        assert self.averaged is not None
        # a step leaves every process with the statistics of its own share; the weights are the same on all
        common = _statistics(model)
        for (name, mine), theirs in zip(self.averaged.state_dict().items(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(common.get(name, theirs).to(mine.dtype), share)
            else:
                mine.copy_(theirs)
        self.count += 1

    @torch.no_grad()
    def _reestimate(self, trainer: pl.Trainer, pl_module: Any) -> None:
        assert self.averaged is not None
        layers = [
            layer for layer in self.averaged.modules() if isinstance(layer, _BatchNorm) and layer.training is False
        ]
        layers = [layer for layer in layers if layer.running_mean is not None]
        if not layers:
            return
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
            layer.train()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        with torch.random.fork_rng(devices=[]), trainer.precision_plugin.forward_context():
            for batch in data.train_dataloader():
                moved = data.on_after_batch_transfer(batch.to(pl_module.device), 0)
                self.averaged(moved.inputs)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
            for statistic in (layer.running_mean, layer.running_var):
                assert statistic is not None
                statistic.copy_(_mean(statistic))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count anew."""
        self._hits = torch.zeros(len(_FIGURES), dtype=torch.float64)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure the averaged weights on the batch that the raw ones were just measured on."""
        if self.averaged is None or not self.count or trainer.sanity_checking:
            return
        with trainer.precision_plugin.forward_context():
            attacked = pl_module.craft(self.attack, batch, where=VALIDATION, model=self.averaged)
            check_answers(attacked, attack="validation")
            with torch.no_grad():
                hits = [
                    (self.averaged(inputs).argmax(dim=1) == batch.labels).sum() for inputs in (batch.inputs, attacked)
                ]
        self._hits += torch.tensor([len(batch), *(int(hit) for hit in hits)], dtype=torch.float64)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log both accuracies over all processes, and keep the best weights."""
        if not self.count or trainer.sanity_checking:
            return
        samples, *hits = global_sum(self._hits.to(pl_module.device, torch.float32)).tolist()
        if not samples:
            return
        found = {name: hit / samples for name, hit in zip(_FIGURES[1:], hits, strict=True)}
        pl_module.log_dict({f"val/averaged/{name}": value for name, value in found.items()}, sync_dist=True)
        if found["robust_accuracy"] > self.best.get("robust_accuracy", -1.0):
            self.best = {"epoch": float(trainer.current_epoch), **found}
            if trainer.is_global_zero:
                self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        assert self.averaged is not None
        weights = {f"model.{name}": value.cpu() for name, value in self.averaged.state_dict().items()}
        checkpoint = {"state_dict": weights, "kdrobust": pl_module.payload, "epoch": trainer.current_epoch}
        write_bytes(self.path, checkpoint_content(checkpoint))

    def summary(self) -> dict[str, Any] | None:
        """What `result.json` says: mode, best epoch, both accuracies on the validation split, the file."""
        if not self.best:
            return None
        shares = {name: self.best[name] for name in _FIGURES[1:]}
        settings: dict[str, Any] = {"mode": self.mode, "begin": self.begin}
        if self.mode == "ema":
            settings["decay"] = self.decay
        return {**settings, "epoch": int(self.best["epoch"]), **shares, "checkpoint": str(self.path)}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the average itself, how much is in it, and the best so far."""
        weights = {} if self.averaged is None else {k: v.cpu().clone() for k, v in self.averaged.state_dict().items()}
        return {"weights": weights, "count": self.count, "best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._restored = state_dict["weights"] or None
        self.count = int(state_dict["count"])
        self.best = dict(state_dict["best"])
