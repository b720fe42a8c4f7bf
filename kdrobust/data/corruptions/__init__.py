"""Common corruptions of images, after Hendrycks & Dietterich 2019, as batched functions of tensors."""

from kdrobust.data.corruptions.blur import defocus_blur, gaussian_blur, motion_blur
from kdrobust.data.corruptions.digital import brightness, contrast, jpeg, pixelate
from kdrobust.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from kdrobust.data.corruptions.table import CORRUPTIONS, SEVERITIES, corrupt
from kdrobust.data.corruptions.weather import fog

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "brightness",
    "contrast",
    "corrupt",
    "defocus_blur",
    "fog",
    "gaussian_blur",
    "gaussian_noise",
    "impulse_noise",
    "jpeg",
    "motion_blur",
    "pixelate",
    "shot_noise",
]
