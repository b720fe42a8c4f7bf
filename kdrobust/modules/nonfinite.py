"""What becomes of a step whose loss or gradient is NaN or infinite: the end, a step left out, or a step back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from kdrobust.modules.base import TrainingError, terms_of

_log = logging.getLogger(__name__)
_POLICIES = ("stop", "skip", "restore")


class NonFinite(pl.Callback):
    """Decides what a loss or gradient that is NaN or infinite does to the training.

    `stop` ends it with the step and the terms. `skip` leaves that step's update out: no weight, moment of the optimiser
    or batch statistic moves, on any process. `restore` also goes back to the weights and the optimiser that the epoch
    began with and goes on with the next batch: the batches between are left out, as in the training of PaLM (Chowdhery
    et al. 2022, section 5.1); a replay of the same batches would end at the same NaN. Learning rates go on as they are.
    Checkpoints then hold that state too, and are twice as large.

    `skip` and `restore` look at every step's gradients, which on a GPU waits for each step; `stop` does not.

    Args:
        policy: `stop`, `skip` or `restore`.
        at_most: so many steps may be skipped, or restored from, in a training; the next one ends it.

    Attributes:
        messages: what was said; results carry it on.

    Raises:
        ValueError: no such policy, or `at_most` below 1.
    """

    def __init__(self, *, policy: str = "stop", at_most: int = 10) -> None:
        if policy not in _POLICIES:
            raise ValueError(f"policy: expected stop, skip or restore, got {policy!r}")
        if at_most < 1:
            raise ValueError(f"at_most: expected at least 1, got {at_most}")
        self.policy = policy
        self.at_most = at_most
        self.messages: list[str] = []
        self._steps: list[int] = []
        self._buffers: dict[str, Tensor] = {}
        self._good: dict[str, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take the decision over from the module."""
        pl_module.stops_at_nonfinite = self.policy == "stop"

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep what a later step may go back to."""
        if self.policy == "restore":
            weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
            optimizers = [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers]
            self._good = {"weights": weights, "optimizers": optimizers}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the statistics that this step's forward passes will move."""
        if self.policy != "stop" and batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = {name: value.detach().clone() for name, value in pl_module.named_buffers()}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Look at loss and gradients; a step that is not finite is not taken."""
        if self.policy == "stop":
            return
        found = pl_module.means.first_nonfinite()
        # a scaler tries scales until gradients are finite, and leaves those steps out by itself
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        fine = found is None and (scaled or _finite_gradients(optimizer))
        if trainer.strategy.reduce_boolean_decision(fine, all=True):
            pl_module.means.settle()
            return
        pl_module.means.drop()
        self._leave_out(trainer, pl_module, optimizer, scaled=scaled)
        self._tell(trainer, terms_of(found[1]) if found else "their gradient")

    @torch.no_grad()
    def _leave_out(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer, *, scaled: bool) -> None:
        if not scaled:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    # an optimiser leaves a weight without a gradient alone
                    weight.grad = None
        for name, value in pl_module.named_buffers():
            value.copy_(self._buffers[name])
        if self.policy == "restore":
            pl_module.load_state_dict(self._good["weights"])
            for each, state in zip(trainer.optimizers, self._good["optimizers"], strict=True):
                settings = [
                    {key: value for key, value in group.items() if key != "params"} for group in each.param_groups
                ]
                each.load_state_dict(copy.deepcopy(state))
                for group, kept in zip(each.param_groups, settings, strict=True):
                    group.update(kept)

    def _tell(self, trainer: pl.Trainer, terms: str) -> None:
        step = trainer.global_step
        self._steps.append(step)
        what = f"not finite at step {step} (terms: {terms})"
        if len(self._steps) > self.at_most:
            raise TrainingError(
                f"loss is {what}, the {len(self._steps)}. such step; lower optimizer.lr, set "
                "trainer.gradient_clip_val, or raise callbacks.nonfinite.at_most"
            )
        done = "its update was left out"
        if self.policy == "restore":
            done = f"back to the weights that epoch {trainer.current_epoch + 1} began with"
        message = f"loss {what}: {done} ({len(self._steps)} of at most {self.at_most})"
        self.messages.append(message)
        _log.warning(message)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting, and to go back to."""
        return {"steps": list(self._steps), "messages": list(self.messages), "good": self._good}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._steps = list(state_dict["steps"])
        self.messages = list(state_dict["messages"])
        self._good = dict(state_dict["good"])


def _finite_gradients(optimizer: Optimizer) -> bool:
    gradients = [
        weight.grad for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None
    ]
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
