"""The corruptions by name, and what their five severities mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from kdrobust.data.corruptions.blur import defocus_blur, gaussian_blur, motion_blur
from kdrobust.data.corruptions.digital import brightness, contrast, jpeg, pixelate
from kdrobust.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from kdrobust.data.corruptions.signal import dc_offset, reverberation, time_shift, volume, white_noise
from kdrobust.data.corruptions.weather import fog
from kdrobust.errors import UsageError
from kdrobust.randomness import address

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One corruption.

    Attributes:
        function: takes inputs, its constant by name, and keys and a seed where it draws.
        constant: the name of what the severities set.
        values: its values at severities 1 to 5.
        draws: whether it is random.
        family: `noise`, `blur`, `weather` or `digital`; of recordings `level`, `noise` or `room`.
        by_size: values are pixels of a 32-pixel image and grow with the image's shorter side.
    """

    function: Callable[..., Tensor]
    constant: str
    values: tuple[float, float, float, float, float]
    draws: bool
    family: str
    by_size: bool = False


def _corruption(
    function: Callable[..., Tensor],
    family: str,
    *,
    draws: bool = False,
    by_size: bool = False,
    **values: (tuple[float, float, float, float, float]),
) -> Corruption:
    ((constant, steps),) = values.items()
    return Corruption(function=function, constant=constant, values=steps, draws=draws, family=family, by_size=by_size)


#: Definitions after Hendrycks & Dietterich 2019. The constants are ours, chosen by eye for small images: each severity
#: is plainly worse than the one before. Figures are therefore not comparable with CIFAR-10-C or ImageNet-C.
CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": _corruption(gaussian_noise, "noise", draws=True, std=(0.04, 0.08, 0.12, 0.18, 0.26)),
    "shot_noise": _corruption(shot_noise, "noise", draws=True, photons=(150.0, 70.0, 40.0, 20.0, 10.0)),
    "impulse_noise": _corruption(impulse_noise, "noise", draws=True, amount=(0.01, 0.03, 0.06, 0.12, 0.2)),
    "defocus_blur": _corruption(defocus_blur, "blur", by_size=True, radius=(0.3, 0.6, 1.0, 1.5, 2.1)),
    "gaussian_blur": _corruption(gaussian_blur, "blur", by_size=True, sigma=(0.5, 0.7, 0.95, 1.25, 1.6)),
    "motion_blur": _corruption(motion_blur, "blur", draws=True, by_size=True, length=(1.0, 2.0, 3.5, 5.0, 7.0)),
    "fog": _corruption(fog, "weather", draws=True, thickness=(0.25, 0.5, 0.9, 1.4, 2.2)),
    "brightness": _corruption(brightness, "weather", shift=(0.08, 0.16, 0.24, 0.34, 0.45)),
    "contrast": _corruption(contrast, "digital", factor=(0.7, 0.5, 0.35, 0.22, 0.12)),
    "pixelate": _corruption(pixelate, "digital", scale=(0.9, 0.75, 0.6, 0.45, 0.33)),
    "jpeg": _corruption(jpeg, "digital", quality=(80, 50, 30, 18, 10)),
}


#: Of recordings. The constants are ours, each severity stronger than the one before.
SIGNAL_CORRUPTIONS: Mapping[str, Corruption] = {
    "volume": _corruption(volume, "level", factor=(0.5, 0.25, 0.12, 0.06, 0.03)),
    "dc_offset": _corruption(dc_offset, "level", shift=(0.01, 0.02, 0.04, 0.07, 0.1)),
    "time_shift": _corruption(time_shift, "level", draws=True, share=(0.05, 0.1, 0.15, 0.2, 0.25)),
    "white_noise": _corruption(white_noise, "noise", draws=True, decibels=(30.0, 24.0, 18.0, 12.0, 6.0)),
    "reverberation": _corruption(reverberation, "room", draws=True, decay=(0.1, 0.2, 0.35, 0.55, 0.8)),
}


def corruptions_for(shape: Sequence[int]) -> Mapping[str, Corruption]:
    """The corruptions that inputs of a shape (without the batch) can suffer: (C, H, W) images, (C, T) recordings.

    Raises:
        ValueError: neither.
    """
    tables = {3: CORRUPTIONS, 2: SIGNAL_CORRUPTIONS}
    if len(shape) not in tables:
        raise ValueError(f"corruptions need images [N, C, H, W] or recordings [N, C, T], got samples of {tuple(shape)}")
    return tables[len(shape)]


def corrupt(inputs: Tensor, name: str, severity: int, *, keys: Tensor, seed: int) -> Tensor:
    """Corrupt a batch of images or recordings.

    What a sample gets is a function of (seed, name, its key): batch size and order change nothing, and severities of
    one corruption share their draws, so that they differ in strength alone.

    Args:
        inputs: [B, C, H, W] floats in [0, 1], any number of channels, sides of 8 and more; or [B, C, T] in [-1, 1].
        name: one of `CORRUPTIONS`; of recordings, of `SIGNAL_CORRUPTIONS`.
        severity: 1 to 5.
        keys: [B] integers, e.g. sample indices.
        seed: the address of the draws.

    Returns:
        The same shape, in the same range.

    Raises:
        UsageError: an unknown corruption or severity.
        ValueError: inputs that this corruption is not for.

    Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
        ICLR 2019, arXiv:1903.12261, section 4.1.
    """
    check_names([name], [severity])
    known = corruptions_for(inputs.shape[1:])
    if name not in known or not inputs.is_floating_point():
        kind = "images [B, C, H, W]" if name in CORRUPTIONS else "recordings [B, C, T]"
        raise ValueError(f"corruption {name}: need {kind} of floats, got {inputs.dtype} {tuple(inputs.shape)}")
    found = known[name]
    value = found.values[severity - 1]
    if found.by_size:
        # a blur of one pixel is much on 8×8 and nothing on 224×224; below 0.6 of its size it would round to none
        value *= max(0.6, min(inputs.shape[-2:]) / 32.0)
    if not len(inputs):
        return inputs
    arguments = {found.constant: value}
    if found.draws:
        return found.function(inputs, keys, **arguments, seed=address(seed, f"corruption/{name}"))
    return found.function(inputs, **arguments)


def check_names(names: list[str], severities: list[int], known: Mapping[str, Corruption] | None = None) -> None:
    """Refuse unknown corruptions and severities.

    Args:
        names: of corruptions.
        severities: of 1 to 5.
        known: the corruptions to choose from; None: of images and of recordings, for want of data to look at.

    Raises:
        UsageError: names the first unknown one and what there is.
    """
    known = {**CORRUPTIONS, **SIGNAL_CORRUPTIONS} if known is None else known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"corruptions.names: no corruption {unknown[0]!r}; there are {', '.join(known)}")
    odd = [severity for severity in severities if severity not in SEVERITIES]
    if odd:
        raise UsageError(f"corruptions.severities: {odd[0]!r} is not one of 1, 2, 3, 4, 5")
