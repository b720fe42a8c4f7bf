"""Adversarial weight perturbation: each step is taken where the loss is highest near the weights, not at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kdrobust.attacks.undisturbed import own_random_numbers
from kdrobust.data.batch import Batch
from kdrobust.losses.collective import global_sum, is_distributed
from kdrobust.randomness import address


class WeightPerturbation(pl.Callback):
    r"""Moves the model's weights up the batch's loss before the step's forward, and back before the optimiser's step.

    Layer by layer $w \leftarrow w + \gamma\,\|w\| \cdot g / \|g\|$, g the gradient of the whole objective on the batch
    (adversarial inputs as crafted for the unmoved weights), for weights with more than one dimension: the official
    code's selection, and the direction its proxy's single step takes. Statistics, random numbers and the objective's
    own state are not touched by the extra pass; with several processes all move alike.

    Args:
        gamma: γ >= 0, relative size of the move; 0 is plain training.
        begin: share of the training, in [0, 1), from which weights are moved.

    Raises:
        ValueError: a value outside its range.

    Source: Wu, Xia & Wang, NeurIPS 2020, arXiv:2004.05884, eqs. 9 and 10.
    """

    def __init__(self, *, gamma: float = 5e-3, begin: float = 0.0) -> None:
        if gamma < 0:
            raise ValueError(f"gamma: must not be negative, got {gamma}")
        if not 0.0 <= begin < 1.0:
            raise ValueError(f"begin: expected a share of the training in [0, 1), got {begin}")
        self.gamma = gamma
        self.begin = begin
        self._unmoved: list[tuple[nn.Parameter, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Move the weights; the attack's callback stands before this one and has set the adversarial inputs."""
        if not self.gamma or pl_module.exact_epoch < self.begin * (trainer.max_epochs or 1):
            return
        if pl_module.objective.needs_attack and batch.adversarial is None:
            raise RuntimeError("the weights must move after the attack: callbacks.attack has to stand first")
        weights = [weight for weight in pl_module.model.parameters() if weight.requires_grad and weight.dim() > 1]
        seed = address(pl_module.seed, "perturbation", trainer.global_step)
        with _trial(pl_module, seed), trainer.precision_plugin.forward_context():
            loss = pl_module.objective(pl_module.views(batch), pl_module.exact_epoch).loss
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        self._unmoved = [(weight, weight.detach().clone()) for weight in weights]
        with torch.no_grad():
            moves: Any = zip(weights, gradients, strict=True)
            for weight, gradient in moves:
                if gradient is None:
                    continue
                whole = global_sum(gradient) if is_distributed() else gradient
                # the mean of the processes' gradients has the direction of their sum
                weight.add_(whole * (self.gamma * weight.norm() / (whole.norm() + 1e-12)))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Move back, to the last bit."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """An interrupted step leaves no moved weights behind."""
        self._restore()

    @torch.no_grad()
    def _restore(self) -> None:
        for weight, value in self._unmoved:
            weight.copy_(value)
        self._unmoved = []


@contextmanager
def _trial(pl_module: Any, seed: int) -> Iterator[None]:
    """A forward and backward that leaves no trace: buffers, random numbers and the objective's statistics stay."""
    state = pl_module.objective.state
    training = state.training
    modules = [pl_module.model, pl_module.objective, *pl_module.partners.values()]
    buffers = [buffer for module in modules for buffer in module.buffers()]
    held = [buffer.clone() for buffer in buffers]
    state.eval()
    try:
        with own_random_numbers(pl_module.device, seed), torch.enable_grad():
            yield
    finally:
        state.train(training)
        with torch.no_grad():
            for buffer, value in zip(buffers, held, strict=True):
                buffer.copy_(value)
