"""Does a model leave its input alone? One that writes into it changes the very samples it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

#: What is wrong with a model that does not, and what mends it.
IN_PLACE = (
    "the model changes its input in place; begin its forward with `x = x.clone()`, or set inplace=False in its first "
    "layer"
)


def answer_of_copy(model: Callable[[Tensor], Any], inputs: Tensor) -> tuple[Any, bool]:
    """A model's answer to a copy of some inputs, and whether it wrote into that copy.

    Reads no values, so it costs no synchronisation: torch counts what is done to a tensor in place. What goes past
    torch (`x.data`, a NumPy view) is not counted.

    Args:
        model: inputs to anything.
        inputs: [B, ...], no inference tensor; left as they are in any case.
    """
    given = inputs.detach().clone()
    before = given._version
    answer = model(given)
    return answer, given._version != before
