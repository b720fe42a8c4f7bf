"""S12 and S17: what the forward pass must not do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from kdrobust.evaluation.checks.probe import UNDOUBTED, Finding, Probe, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.predict import predict, predict_all
from kdrobust.randomness import uniform

#: Largest move of a pixel in S17, in pixels' units: one level of 8 bits.
MOVE = 1 / 255
#: S17: directions tried, and by how much the first move must outdo every second one.
WAYS, ISOLATED = 3, 10.0

_DIFFERENTIATE = {
    torch.autograd.grad: "torch.autograd.grad",
    torch.autograd.backward: "torch.autograd.backward",
    torch.Tensor.backward: "Tensor.backward",
}


class _Watch(TorchFunctionMode):
    """Notes every call of autograd; what torch calls on the way is left alone."""

    def __init__(self, seen: dict[str, int]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count the call, then do it."""
        # not every overridable is hashable
        name = next((name for known, name in _DIFFERENTIATE.items() if func is known), None)
        if name is not None:
            self.seen[name] = self.seen.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


@trust_check(
    "S12",
    "no optimisation in the forward pass",
    "Calls of autograd and optimiser steps while the model answers two samples. Any call fails: such a model must be "
    "attacked through its optimisation.",
    cost="1 forward pass of 2 samples",
)
def no_optimisation(probe: Probe) -> Finding:
    """S12: what is optimised at test time undoes attacks that do not know of it."""
    rows = probe.pick(most=2)
    if not len(rows):
        return Finding(verdict="skipped", detail="no samples")
    inputs, _, _ = probe.batch(rows)
    seen: dict[str, int] = {}

    def stepped(optimizer: torch.optim.Optimizer, *unused: Any) -> None:
        name = f"{type(optimizer).__name__}.step"
        seen[name] = seen.get(name, 0) + 1

    handle = register_optimizer_step_pre_hook(stepped)
    try:
        with _Watch(seen):
            predict(probe.model, inputs)
    finally:
        handle.remove()
    if seen:
        told = ", ".join(f"{name} {count} times" for name, count in seen.items())
        return Finding(verdict="fail", detail=f"the forward pass called {told}", measured={"calls": seen})
    return Finding(verdict="pass", detail="the forward pass differentiates nothing", measured={"calls": seen})


@trust_check(
    "S17",
    "the evaluated samples are nothing special",
    "Samples whose logits jump with the first move of at most 1/255 a pixel, in 3 directions, at least ten times as "
    "far as with a second one alike: the model recognises them. Warns at the first, fails where their share is above "
    "5 % beyond doubt (lower end of the 95 % Wilson interval).",
    cost="7 forward passes a sample",
)
def nothing_special(probe: Probe) -> Finding:
    """S17: a model that knows its test samples by their pixels answers from memory, and forgets when they move."""
    rows = probe.pick()
    n = len(rows)
    if n == 0:
        return Finding(verdict="skipped", detail="no samples")
    inputs, labels, keys = probe.batch(rows)
    at_rest = predict_all(probe.model, inputs, probe.batch_size)
    size, (low, high) = at_rest.norm(dim=1), probe.threat.box
    first, second, flips = [], [], torch.zeros(n, dtype=torch.bool, device=labels.device)
    for way in range(WAYS):
        move = MOVE * (2 * uniform(keys, inputs.shape[1:], seed=probe.seed("move", way)) - 1)
        # two moves must fit into the box
        move = torch.where(
            inputs < low + 2 * MOVE, move.abs(), torch.where(inputs > high - 2 * MOVE, -move.abs(), move)
        )
        once, twice = (predict_all(probe.model, inputs + times * move, probe.batch_size) for times in (1, 2))
        first.append((once - at_rest).norm(dim=1))
        second.append((twice - once).norm(dim=1))
        flips |= once.argmax(dim=1) != at_rest.argmax(dim=1)
    least, most = torch.stack(first).amin(dim=0), torch.stack(second).amax(dim=0)
    jumps = int((least > ISOLATED * torch.maximum(most, 1e-5 * size)).sum())
    measured = {"samples": n, "isolated": jumps, "flips": int(flips.sum()), "directions": WAYS, "move": MOVE}
    detail = f"the logits of {jumps} of {n} samples jump as soon as a pixel moves"
    if wilson(jumps, n)[0] > UNDOUBTED:
        return Finding(verdict="fail", detail=f"{detail}: the model recognises them", measured=measured)
    return Finding(verdict="warn" if jumps else "pass", detail=detail, measured=measured)
