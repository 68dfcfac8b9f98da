"""A decoded upload: what the network sees of it, and what must survive beside that."""

from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

Pixels = NDArray[numpy.uint8 | numpy.uint16]
"""Levels of one depth; 0 is none, the type's largest number is all."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says beside its pixels, in the form in which an answer says it again."""

    icc_profile: bytes | None = None
    """The colour profile that the pixel values are in."""
    exif: bytes | None = None
    """A TIFF structure, without the marker `Exif` in front, for an upright picture."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""

    def stripped(self) -> "Metadata":
        """Only what the pixel values mean."""
        return Metadata(icc_profile=self.icc_profile)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright picture.

    Its planes are what the network upscales, RGB (N, H, W, 3). An opaque picture has one, its colour. One with
    transparency has two: its colour, in which what nobody can see has taken the colour of what is visible around it,
    and its alpha. So no hidden colour bleeds into an edge.
    """

    planes: Pixels
    grey: bool
    """The upload had no colour, and so will the answer."""
    bits: int
    """8 or 16 bits a channel in the upload, and so in the answer where its format can."""
    metadata: Metadata = Metadata()
    frames: int = 1
    """Pictures in the file, of which this is the first."""

    @property
    def height(self) -> int:
        """In px."""
        return int(self.planes.shape[1])

    @property
    def width(self) -> int:
        """In px."""
        return int(self.planes.shape[2])

    @property
    def transparent(self) -> bool:
        """It has an alpha plane."""
        return len(self.planes) == 2

    def without_metadata(self) -> "Picture":
        """The same picture, of which nothing is told but its colours."""
        return replace(self, metadata=self.metadata.stripped())


def most(pixels: Pixels) -> int:
    """The level that means all: 255 or 65535."""
    return int(numpy.iinfo(pixels.dtype).max)


def planes_of(colour: Pixels, alpha: Pixels) -> Pixels:
    """The two planes (2, H, W, 3) of colour (H, W, 3) and alpha (H, W)."""
    visible = alpha > 0
    filled = _spread(numpy.where(visible[..., None], colour, 0).astype(numpy.float32), visible)
    opacity = numpy.broadcast_to(alpha[..., None], colour.shape)
    return numpy.stack((filled.round().astype(colour.dtype), opacity))


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
