"""Made-up data for runs: an archive of three classes of 3×10×7, a folder of images, spoken words that are tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.recordings import speak

_DIGITS = tuple(map(str, range(10)))


def make(folder: Path) -> None:
    """Make what is missing of it."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    if not (folder / "three.npz").exists():
        arrays = {}
        for split, count in (("train", 120), ("test", 30)):
            labels = np.arange(count) % 3
            # a class is a brightness of one channel
            images = draw.integers(0, 120, (count, 3, 10, 7))
            images[np.arange(count), labels] += 100
            arrays |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels}
        np.savez(folder / "three.npz", **arrays)
    if not (folder / "images").exists():
        for split, count in (("train", 24), ("test", 6)):
            for label, name in enumerate(("dark", "grey", "light", "white")):
                place = folder / "images" / split / name
                place.mkdir(parents=True)
                for at in range(count):
                    pixels = draw.integers(0, 60, (8, 8, 3)) + 60 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(place / f"{at}.png")
    if not (folder / "words").exists():
        speak(folder / "words", speakers=("ann", "bob", "lucas", "theo"), words=_DIGITS, takes=6)
