"""Which form of a model an attack climbs: the model itself, or its folded form in single or half precision."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdrobust.attacks.contract import Model
from kdrobust.models.folded import Folded, NotFoldable, check_folded

log = logging.getLogger("kdrobust")
PRECISIONS = ("auto", "exact", "fp32", "bf16")
#: Operations of a forward pass from which `auto` leaves the exact model, on images of so many pixels and more. Two
#: convolutions on 28x28 (0.58 million) are 2.2 times faster in bf16 and 1.4 times in fp32; on 8x8 (0.05 to 0.2 million)
#: they are slower in either, and runs on such images have the same bits on every machine.
WORTHWHILE = {256: 500_000, 0: 2_000_000}
_NAMES = {None: "exact", torch.float32: "fp32", torch.bfloat16: "bf16"}
#: Samples that a folded model is compared on with the exact one before it is used.
_COMPARED = 4
_PLAIN = (torch.float32, False)


@dataclass
class _Known:
    """What was found out about a model."""

    foldable: bool = True
    #: By what it computes in and whether it is compiled.
    folded: dict[tuple[torch.dtype, bool], Folded] = field(default_factory=dict)
    #: What `auto` decided; None: not yet, or the exact model where it is `small`.
    automatic: torch.dtype | None = None
    small: bool = False


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def climbed(model: Model, precision: str, inputs: Tensor, *, compiled: bool = False) -> Model:
    """What an attack climbs in place of a model in eval mode, with the model's weights as they are now.

    The folded form is made once a model and refreshed by each call, so it is right for as long as the weights stay:
    call this once an attack. It takes the place of convolutional networks of plain layers alone; any other model
    (noise, hooks, layers that are not known) is climbed itself, and the log says why, once.

    Args:
        model: inputs to logits.
        precision: `exact`, the model itself; `fp32`, the same function to rounding, batch norm folded, channels last;
            `bf16`, that with convolutions in half precision; `auto`, for networks from half a million operations on
            (two million on images below 16x16) bf16 where the hardware has it and no convolution is grouped, otherwise
            fp32; smaller ones exact.
        inputs: the batch, [B, ...].
        compiled: the folded form through `torch.compile`.
    """
    if precision == "exact" or not isinstance(model, nn.Module) or inputs.dim() != 4 or not len(inputs):
        return model
    if inputs.dtype != torch.float32 or (precision == "auto" and _at_most(model, inputs) < worthwhile(inputs)):
        return model
    known = _KNOWN.setdefault(model, _Known())
    if any(not folded.fits(model) for folded in known.folded.values()):
        known = _KNOWN[model] = _Known()
    if not known.foldable or (precision == "auto" and known.small):
        return model
    try:
        dtype = _choose(model, precision, inputs, known)
        if dtype is None:
            return model
        key = (dtype, compiled)
        folded = known.folded.get(key) or known.folded.setdefault(key, Folded(model, dtype, compiled=compiled))
    except NotFoldable as reason:
        known.foldable = False
        log.info("kernels  %s runs as it is: %s", type(model).__name__, reason)
        return model
    folded.refresh()
    return folded


def form_of(model: Model, precision: str) -> str:
    """What the latest attack of this precision on a model climbed: `exact`, `fp32` or `bf16`."""
    known = _KNOWN.get(model) if isinstance(model, nn.Module) else None
    if precision == "exact" or known is None or not known.foldable:
        return "exact"
    if precision == "auto":
        return _NAMES[known.automatic]
    return precision if known.folded else "exact"


def confirmed(
    model: Model, exact: Model, points: Tensor, logits: Tensor, judge: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Which samples a form of a model gets wrong and the model itself too, [B] bool.

    Args:
        model: the form that was asked; where it is the model itself, nothing is asked again.
        exact: the model.
        points: [B, ...].
        logits: what the form answered, [B, K].
        judge: called with logits [b, K] and the places [b] of their samples; whether they are wrong, [b] bool.
    """
    wrong = judge(logits, torch.arange(len(logits), device=logits.device))
    rows = torch.nonzero(wrong).flatten() if model is not exact else wrong.new_empty(0)
    if not len(rows):
        return wrong
    with torch.no_grad():
        return wrong.index_copy(0, rows, judge(exact(points[rows]), rows))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 faster than in single precision."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # private names: where a release has renamed them, half precision is left alone
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported() for supported in asked if supported is not None)


def _choose(model: nn.Module, precision: str, inputs: Tensor, known: _Known) -> torch.dtype | None:
    if precision != "auto":
        wanted = torch.bfloat16 if precision == "bf16" else torch.float32
        if not known.folded:
            _first(model, inputs, known)
        return wanted
    if known.automatic is None:
        folded = known.folded.get(_PLAIN) or _first(model, inputs, known)
        operations = folded.flops(inputs)
        if operations < worthwhile(inputs):
            known.small = True
            return None
        half = has_fast_bf16(inputs.device) and not folded.grouped
        known.automatic = torch.bfloat16 if half else torch.float32
        if half:
            # its weights would be a third copy that nothing climbs
            known.folded.pop(_PLAIN)
        log.info(
            "kernels  %s (%.3g operations a sample) runs folded, in %s",
            type(model).__name__,
            operations,
            "bf16" if half else "fp32",
        )
    return known.automatic


def _first(model: nn.Module, inputs: Tensor, known: _Known) -> Folded:
    folded = Folded(model)
    check_folded(model, folded, inputs[:_COMPARED])
    return known.folded.setdefault(_PLAIN, folded)


def worthwhile(inputs: Tensor) -> int:
    """Operations a sample from which `auto` leaves the exact model.

    Args:
        inputs: images, [B, C, H, W].
    """
    pixels = inputs.shape[-1] * inputs.shape[-2]
    return next(operations for least, operations in WORTHWHILE.items() if pixels >= least)


def _at_most(model: nn.Module, inputs: Tensor) -> int:
    """A bound on a model's operations that costs no forward pass: every convolution at every pixel."""
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d))
    return 2 * weights * inputs.shape[-1] * inputs.shape[-2]
