"""A decoded upload: what the network sees of it, and what must survive beside that."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[numpy.uint8]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright picture.

    Its planes are what the network upscales, uint8 RGB (N, H, W, 3). An opaque picture has one, its colour. One with
    transparency has two: its colour, in which what nobody can see has taken the colour of what is visible around it,
    and its alpha. So no hidden colour bleeds into an edge.
    """

    planes: Pixels
    grey: bool
    """The upload had no colour, and so will the answer."""
    icc_profile: bytes | None
    """The colour profile that the pixel values are in."""

    @property
    def height(self) -> int:
        """In px."""
        return int(self.planes.shape[1])

    @property
    def width(self) -> int:
        """In px."""
        return int(self.planes.shape[2])


def planes_of(colour: Pixels, alpha: Pixels) -> Pixels:
    """The two planes (2, H, W, 3) of colour (H, W, 3) and alpha (H, W)."""
    visible = alpha > 0
    filled = _spread(numpy.where(visible[..., None], colour, 0).astype(numpy.float32), visible)
    opacity = numpy.broadcast_to(alpha[..., None], colour.shape)
    return numpy.stack((filled.round().astype(numpy.uint8), opacity))


def colour_and_alpha(upscaled: Pixels, low_res: Pixels) -> tuple[Pixels, Pixels]:
    """Colour (H, W, 3) and alpha (H, W) of two upscaled planes; black where nothing is visible.

    Alpha stays within the range of the low-res pixels around it, so what was clear stays clear, and solid solid.
    """
    scale = upscaled.shape[1] // low_res.shape[1]
    given = Image.fromarray(low_res[1, :, :, 0])
    least, most = (
        numpy.asarray(given.filter(limit(3))).repeat(scale, axis=0).repeat(scale, axis=1)
        for limit in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    alpha = upscaled[1].mean(axis=-1, dtype=numpy.float32).round().astype(numpy.uint8).clip(least, most)
    return numpy.where(alpha[..., None] > 0, upscaled[0], numpy.uint8(0)), alpha


def _spread(colour: NDArray[numpy.float32], known: NDArray[numpy.bool_]) -> NDArray[numpy.float32]:
    """Fill what is not known with the mean of what is, in ever larger squares around it.

    Args:
        colour: (H, W, 3), zero where it is not known.
        known: (H, W).
    """
    height, width = known.shape
    if known.all() or height == width == 1:
        return colour
    to_even = ((0, height % 2), (0, width % 2))
    pairs = ((height + 1) // 2, 2, (width + 1) // 2, 2)
    count = numpy.pad(known, to_even).reshape(pairs).sum(axis=(1, 3))
    total = numpy.pad(colour, (*to_even, (0, 0))).reshape(*pairs, 3).sum(axis=(1, 3))
    half_size = _spread(total / numpy.maximum(count, 1)[..., None].astype(numpy.float32), count > 0)
    around = half_size.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return numpy.where(known[..., None], colour, around)
