"""A decoded upload: what the network sees of it, and what must survive beside that."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from model.pictures.samples import SLICE_ROWS as SLICE_ROWS
from model.pictures.samples import Pixels as Pixels
from model.pictures.samples import most as most


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


def planes_of(colour: Pixels, alpha: Pixels) -> Pixels:
    """The two planes (2, H, W, 3) of colour (H, W, 3) and alpha (H, W)."""
    planes = numpy.empty((2, *colour.shape), colour.dtype)
    planes[0], planes[1] = colour, alpha[..., None]
    visible = alpha > 0
    if visible.all():
        return planes
    around = _spread(*_halved(colour, visible))
    for top in range(0, len(colour), SLICE_ROWS):
        rows = slice(top, top + SLICE_ROWS)
        hidden = ~visible[rows]
        planes[0, rows][hidden] = _doubled(around[top // 2 : top // 2 + SLICE_ROWS // 2], hidden.shape)[hidden].round()
    return planes


def _spread(colour: NDArray[numpy.float32], known: NDArray[numpy.bool_]) -> NDArray[numpy.float32]:
    """Fill what is not known with the mean of what is, in ever larger squares around it.

    Args:
        colour: (H, W, 3).
        known: (H, W).
    """
    if known.all() or known.size == 1:
        return colour
    around = _doubled(_spread(*_halved(colour, known)), known.shape)
    return numpy.where(known[..., None], colour, around)


def _halved(colour: NDArray[Any], known: NDArray[numpy.bool_]) -> tuple[NDArray[numpy.float32], NDArray[numpy.bool_]]:
    """The mean of what is known in each square of 2 x 2, and whether anything is."""
    height, width = known.shape
    shape = (-(-height // 2), -(-width // 2))
    total, count = numpy.zeros((*shape, 3), numpy.float32), numpy.zeros(shape, numpy.float32)
    for top in range(0, height, SLICE_ROWS):
        for row, column in itertools.product((0, 1), (0, 1)):
            here = slice(top + row, top + SLICE_ROWS, 2), slice(column, None, 2)
            some = known[here]
            there = slice(top // 2, top // 2 + some.shape[0]), slice(some.shape[1])
            total[there] += colour[here] * some[..., None]
            count[there] += some
    total /= numpy.maximum(count, 1)[..., None]
    return total, count > 0


def _doubled(half_size: NDArray[numpy.float32], shape: tuple[int, ...]) -> NDArray[numpy.float32]:
    return half_size.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
