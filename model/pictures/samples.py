"""Decoded samples: colour and alpha, and how they are turned upright."""

from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

Pixels = NDArray[numpy.uint8 | numpy.uint16]
"""Levels of 8 or 16 bits, from 0 to the maximum of the type."""

SLICE_ROWS = 64
"""Rows that are processed at a time, to limit temporary memory."""

UPRIGHT = 1
"""EXIF's orientation of pixels that are stored as they are shown."""

NO_RANGE = "signed, 32-bit and floating-point pixels have no fixed range; send 8 or 16 bits for each channel"
"""Why such pixels are refused."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pixels as stored in the file, not turned."""

    colour: Pixels
    """RGB (H, W, 3)."""
    alpha: Pixels | None
    """(H, W)."""
    grey: bool
    converted: bool = False
    """The colour was converted to sRGB; the file's colour profile does not describe it."""
    upright: bool = False
    """The decoder has turned them already."""


def max_level(pixels: Pixels) -> int:
    """Return the maximum level: 255 or 65535."""
    return int(numpy.iinfo(pixels.dtype).max)


def of_channels(pixels: Pixels, *, upright: bool = False) -> Samples:
    """Make samples of pixels (H, W, C): grey, grey with alpha, RGB or RGBA."""
    channels = pixels.shape[-1]
    grey, alpha = channels < 3, channels in (2, 4)
    colour = pixels[..., :1].repeat(3, axis=-1) if grey else pixels[..., :3]
    return Samples(colour=colour, alpha=pixels[..., -1] if alpha else None, grey=grey, upright=upright)


def placed(samples: Samples, place: tuple[int, int], size: tuple[int, int]) -> Samples:
    """Return samples of a picture that is clear around these; the same ones if they fill it.

    Args:
        place: left and top.
        size: width and height of the picture.
    """
    (left, top), (width, height), (down, across) = place, size, samples.colour.shape[:2]
    if (across, down) == size:
        return samples
    colour = numpy.zeros((height, width, 3), samples.colour.dtype)
    alpha = numpy.zeros((height, width), samples.colour.dtype)
    part = slice(top, top + down), slice(left, left + across)
    colour[part] = samples.colour
    alpha[part] = max_level(alpha) if samples.alpha is None else samples.alpha
    return replace(samples, colour=colour, alpha=alpha)


def divide_by_alpha(colour: Pixels, alpha: Pixels) -> None:
    """Divide colour (H, W, C) that was multiplied by alpha (H, W), in place."""
    whole = max_level(colour)
    for top in range(0, len(colour), SLICE_ROWS):
        rows = slice(top, top + SLICE_ROWS)
        straight = colour[rows] / numpy.maximum(alpha[rows, :, None], 1).astype(numpy.float32) * numpy.float32(whole)
        colour[rows] = straight.round().clip(0, whole)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn pixels (H, W, ...) upright by EXIF's orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return numpy.flip(pixels, flips)
