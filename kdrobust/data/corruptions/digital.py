"""Light, contrast and compression."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def contrast(inputs: Tensor, *, factor: float) -> Tensor:
    """`m + factor·(x - m)`, m the mean of each image and channel.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        factor: share of the contrast left, in [0, 1].
    """
    mean = inputs.mean(dim=(-2, -1), keepdim=True)
    return (mean + factor * (inputs - mean)).clamp(0.0, 1.0)


def brightness(inputs: Tensor, *, shift: float) -> Tensor:
    """`clip(x + shift, 0, 1)`: for grey and colour alike, every channel is lifted by as much.

    Args:
        inputs: [B, *shape] floats in [0, 1].
        shift: in pixels of [0, 1].
    """
    return (inputs + shift).clamp(0.0, 1.0)


def pixelate(inputs: Tensor, *, scale: float) -> Tensor:
    """Shrink by averaging areas, enlarge by repeating pixels.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        scale: size of the small image, as a share of the side, in (0, 1]; at least one pixel is left.
    """
    height, width = inputs.shape[-2:]
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    shrunk = functional.interpolate(inputs, size=small, mode="area")
    return functional.interpolate(shrunk, size=(height, width), mode="nearest-exact")


def jpeg(inputs: Tensor, *, quality: int) -> Tensor:
    """Write each image as a JPEG file in memory and read it back (Pillow, libjpeg).

    Three channels are one colour image, stored with halved colour resolution as usual; of any other number each
    channel is a grey image of its own. Pixels are rounded to 8 bits first.

    Args:
        inputs: [B, C, H, W] floats in [0, 1].
        quality: libjpeg's, 1 to 95.

    Returns:
        [B, C, H, W] on the device of `inputs`, in steps of 1/255.

    Raises:
        ValueError: `quality` out of range.
    """
    if not 1 <= quality <= 95:
        raise ValueError(f"quality must lie in 1 .. 95, got {quality}")
    colour = inputs.shape[1] == 3
    levels = (inputs * 255.0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    # [.., H, W, 3] or [.., H, W]
    images = levels.transpose(0, 2, 3, 1) if colour else levels.reshape(-1, *levels.shape[-2:])
    read = np.stack([_through_file(image, quality) for image in images]) if len(images) else images
    back = read.transpose(0, 3, 1, 2) if colour else read.reshape(levels.shape)
    return torch.from_numpy(np.ascontiguousarray(back)).to(inputs.device, inputs.dtype) / 255.0


def _through_file(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))
