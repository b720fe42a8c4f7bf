"""Common corruptions of images, after Hendrycks & Dietterich 2019, and of recordings: batched functions of tensors."""

from kdrobust.data.corruptions.blur import defocus_blur, gaussian_blur, motion_blur
from kdrobust.data.corruptions.digital import brightness, contrast, jpeg, pixelate
from kdrobust.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from kdrobust.data.corruptions.signal import dc_offset, reverberation, time_shift, volume, white_noise
from kdrobust.data.corruptions.table import (
    CORRUPTIONS,
    SEVERITIES,
    SIGNAL_CORRUPTIONS,
    corrupt,
    corruptions_for,
)
from kdrobust.data.corruptions.weather import fog

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "SIGNAL_CORRUPTIONS",
    "brightness",
    "contrast",
    "corrupt",
    "corruptions_for",
    "dc_offset",
    "defocus_blur",
    "fog",
    "gaussian_blur",
    "gaussian_noise",
    "impulse_noise",
    "jpeg",
    "motion_blur",
    "pixelate",
    "reverberation",
    "shot_noise",
    "time_shift",
    "volume",
    "white_noise",
]
