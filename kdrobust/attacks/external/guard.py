"""Running somebody else's attack: it sees a model it cannot change, and the process is afterwards as it was."""

from __future__ import annotations

import logging
import random
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.attacks.contract import Model
from kdrobust.attacks.undisturbed import undisturbed


class Facade(nn.Module):
    """A model as other libraries want it: float32 in, float32 logits out, and nothing behind it within reach.

    What a library does to a model (`train`, `eval`, `zero_grad`, `to`, walking over its modules) ends here.

    Args:
        model: inputs to logits.
        like: inputs as the model takes them, [B, ...]: shape, type and device.
    """

    def __init__(self, model: Model, like: Tensor) -> None:
        super().__init__()
        # in a tuple `nn.Module` does not find it: no mode, gradient or device of the model can be set from outside
        self._behind = (model,)
        self._shape, self._dtype = like.shape[1:], like.dtype
        # libraries read a model's device off its first parameter
        self.anchor = nn.Parameter(torch.zeros(1, device=like.device), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, K] in float32 of inputs [B, ...], which may be shaped otherwise than the model's."""
        (model,) = self._behind
        return model(inputs.reshape(-1, *self._shape).to(self._dtype)).float()


@contextmanager
def guarded(model: Model, *, device: torch.device, seed: int) -> Iterator[None]:
    """Everything an attack of another library may not change, put back at the end, whatever happens.

    Beside what `undisturbed` guards: NumPy's and Python's global generators, those of every CUDA device in use, and the
    trace function of debuggers and coverage. Inside, all of these generators begin at `seed`.

    Args:
        model: the model under attack; it answers in eval mode. Of a plain function the parameters are out of reach: the
            gradients that a library leaves on them stay.
        device: where the inputs live.
        seed: address of what the library draws.
    """
    trace, python, numpy = sys.gettrace(), random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        # `torch.manual_seed`, which libraries call, reaches every device
        in_use = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        stack.enter_context(torch.random.fork_rng(devices=list(in_use)))
        stack.enter_context(undisturbed(model, None, mode="eval", device=device, seed=seed))
        try:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            sys.settrace(trace)


def condensed(lines: Sequence[str]) -> tuple[str, ...]:
    """Warnings that differ in their numbers alone become one: the first, with how often it was said."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for line in lines:
        key = re.sub(r"\d+(\.\d+)?", "#", line)
        first.setdefault(key, line)
        counts[key] = counts.get(key, 0) + 1
    return tuple(line if counts[key] == 1 else f"{line} (said {counts[key]} times)" for key, line in first.items())


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().split()))


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing below a warning is logged: libraries chat on the root logger, which is the terminal's."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def overheard(name: str) -> Iterator[list[str]]:
    """Collect a logger's warnings instead of letting it speak; yields the list they go to, one line each.

    Args:
        name: the logger's name; its handlers, level and propagation are as before afterwards.
    """
    logger, collector = logging.getLogger(name), _Collector()
    before = logger.handlers[:], logger.level, logger.propagate, logger.disabled
    logger.handlers, logger.propagate, logger.disabled = [collector], False, False
    logger.setLevel(logging.WARNING)
    try:
        yield collector.lines
    finally:
        logger.handlers, level, logger.propagate, logger.disabled = before
        logger.setLevel(level)
