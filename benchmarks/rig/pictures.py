"""Pictures to upscale: seeded noise, or part of a photograph."""

from pathlib import Path

import numpy
from PIL import Image

from model.transfer import Pixels


def smooth_noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Return a seeded picture with flat parts and some detail, uint8 RGB (1, height, width, 3)."""
    noise = numpy.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=numpy.uint8)
    return numpy.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))[None].copy()


def square(path: Path | None, side: int) -> Pixels:
    """Return the middle of a picture file, (1, side, side, 3), or noise without a path.

    Raises:
        ValueError: the picture is smaller.
    """
    if path is None:
        return smooth_noise(side, side)
    with Image.open(path) as image:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        if min(left, top) < 0:
            raise ValueError(f"{path} has {image.width} x {image.height} px, fewer than {side} x {side}")
        middle = image.convert("RGB").crop((left, top, left + side, top + side))
    return numpy.asarray(middle)[None].copy()
