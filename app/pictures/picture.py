"""A decoded upload: what the network sees of it, and what must survive beside that."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Pixels = NDArray[numpy.uint8]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright picture.

    Its planes are what the network upscales, uint8 RGB (N, H, W, 3). An opaque picture has one, its colour. One with
    transparency has two: colour premultiplied by alpha, and alpha itself. So no colour that nobody can see bleeds
    into an edge.
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


def premultiplied(colour: Pixels, alpha: Pixels) -> Pixels:
    """Planes (2, H, W, 3) of colour (H, W, 3) and alpha (H, W), both uint8."""
    opacity = alpha[..., None].astype(numpy.uint16)
    visible = ((colour * opacity + 127) // 255).astype(numpy.uint8)
    return numpy.stack((visible, numpy.broadcast_to(alpha[..., None], colour.shape)))


def straight(planes: Pixels) -> tuple[Pixels, Pixels]:
    """Colour (H, W, 3) and alpha (H, W) of premultiplied planes (2, H, W, 3); black where nothing is visible."""
    visible = planes[0].astype(numpy.uint32)
    alpha = ((planes[1].astype(numpy.uint32).sum(axis=-1) + 1) // 3).astype(numpy.uint8)
    opacity = numpy.maximum(alpha, 1)[..., None].astype(numpy.uint32)
    colour = numpy.minimum((visible * 255 + opacity // 2) // opacity, 255).astype(numpy.uint8)
    return colour * (alpha > 0)[..., None].astype(numpy.uint8), alpha
