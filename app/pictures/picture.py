"""A decoded upload: the planes for the network, and everything that must survive."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from app.pictures.alpha import as_seen
from model.pictures.samples import SLICE_ROWS as SLICE_ROWS
from model.pictures.samples import Pixels as Pixels
from model.pictures.samples import max_level as max_level


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of an answer."""

    icc_profile: bytes | None = None
    """Colour profile of the pixel values."""
    exif: bytes | None = None
    """A TIFF structure for an upright picture, without the `Exif` that precedes it in a JPEG."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""
    colours: Mapping[bytes, bytes] = field(default_factory=dict)
    """Descriptions of the colours other than a profile, as chunks of PNG; see `app.pictures.colours`."""
    texts: Sequence[tuple[bytes, bytes]] = ()
    """Kinds and contents of a PNG's text chunks."""
    texts_left_out: bool = False
    """The upload has more or larger texts than are kept."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright picture.

    Its planes are what the network upscales, RGB (N, H, W, 3). An opaque picture has one plane, its colour. A
    transparent one has two, colour and alpha; invisible pixels take the colour of visible ones around them, so that no
    hidden colour bleeds into an edge.
    """

    planes: Pixels
    grey: bool
    """The upload has no colour, and neither will the answer."""
    neutral: bool = False
    """Every visible pixel is grey, and so will be those of the answer, in as many channels as the upload has."""
    bits: int
    """Bits per channel of the planes, 8 or 16."""
    file_bits: int | None = None
    """Bits per channel of the upload where the planes have more: 10 or 12 in an AVIF."""
    metadata: Metadata = Metadata()
    frames: int = 1
    """Pictures in the file; this is the first."""
    own_alpha: Pixels | None = None
    """Alpha (H, W) where that of the planes is relative; see `as_seen`."""

    @property
    def height(self) -> int:
        """Height in px."""
        return int(self.planes.shape[1])

    @property
    def width(self) -> int:
        """Width in px."""
        return int(self.planes.shape[2])

    @property
    def depth(self) -> int:
        """Bits per channel of the upload, and of the answer if its format allows."""
        return self.file_bits or self.bits

    @property
    def transparent(self) -> bool:
        """True if it has an alpha plane."""
        return len(self.planes) == 2

    def deepened(self) -> "Picture":
        """Return the picture with planes of 16 bits, so that the network's finer levels are kept."""
        return self if self.bits == 16 else replace(self, planes=self.planes * numpy.uint16(257), bits=16)

    @property
    def alpha(self) -> Pixels | None:
        """Alpha (H, W) of the upload; None if it is opaque."""
        if self.own_alpha is not None or not self.transparent:
            return self.own_alpha
        return self.planes[1, :, :, 0]

    def as_seen(self, *, wraps: bool) -> "Picture":
        """Return a transparent picture with the planes that a network sees; see `app.pictures.alpha`.

        Args:
            wraps: opposite edges of the picture meet.
        """
        return replace(self, planes=as_seen(self.planes, wraps=wraps), own_alpha=self.planes[1, :, :, 0].copy())


def is_neutral(colour: Pixels, alpha: Pixels | None) -> bool:
    """Return True if all pixels are grey as they are shown: red, green and blue are within a level of 8 bits.

    A dark picture of 16 bits may have all of its colours within that; there, 1/255 of its brightest level counts.

    Args:
        colour: (H, W, 3).
        alpha: (H, W); None for opaque pictures.
    """
    whole, widest, brightest = max_level(colour), 0, 0
    for top in range(0, len(colour), SLICE_ROWS):
        rows = slice(top, top + SLICE_ROWS)
        red, green, blue = (colour[rows, :, channel] for channel in range(3))
        high = numpy.maximum(numpy.maximum(red, green), blue)
        spread = high - numpy.minimum(numpy.minimum(red, green), blue)
        if alpha is not None:
            share = alpha[rows].astype(numpy.uint32)
            high, spread = high * share // whole, (spread * share + whole - 1) // whole
        widest, brightest = max(widest, int(spread.max())), max(brightest, int(high.max()))
        if widest > whole // 255:
            return False
    return whole == 255 or 255 * widest <= brightest


def planes_of(colour: Pixels, alpha: Pixels) -> Pixels:
    """Make the two planes (2, H, W, 3) of colour (H, W, 3) and alpha (H, W)."""
    planes = numpy.empty((2, *colour.shape), colour.dtype)
    planes[0], planes[1] = colour, alpha[..., None]
    visible = alpha > 0
    if visible.all():
        return planes
    around = _spread(*_halved(colour, alpha))
    for top in range(0, len(colour), SLICE_ROWS):
        rows = slice(top, top + SLICE_ROWS)
        hidden = ~visible[rows]
        planes[0, rows][hidden] = _doubled(around[top // 2 : top // 2 + SLICE_ROWS // 2], hidden.shape)[hidden].round()
    return planes


def _spread(colour: NDArray[numpy.float32], weight: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
    """Fill pixels without weight, in place, with the mean of others in larger and larger squares around them.

    Args:
        colour: (H, W, 3).
        weight: (H, W).
    """
    known = weight > 0
    if known.all() or known.size == 1:
        return colour
    around = _doubled(_spread(*_halved(colour, weight)), known.shape)
    numpy.copyto(colour, around, where=~known[..., None])
    return colour


def _halved(colour: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]:
    """Return the mean of each square of 2 x 2 by the weights of its pixels, and the sum of these."""
    height, width = weight.shape
    shape = (-(-height // 2), -(-width // 2))
    total, sums = numpy.zeros((*shape, 3), numpy.float32), numpy.zeros(shape, numpy.float32)
    for top in range(0, height, SLICE_ROWS):
        for row, column in itertools.product((0, 1), (0, 1)):
            here = slice(top + row, top + SLICE_ROWS, 2), slice(column, None, 2)
            some = weight[here].astype(numpy.float32)
            there = slice(top // 2, top // 2 + some.shape[0]), slice(some.shape[1])
            total[there] += colour[here] * some[..., None]
            sums[there] += some
    total /= numpy.maximum(sums, 1)[..., None]
    return total, sums


def _doubled(half_size: NDArray[numpy.float32], shape: tuple[int, ...]) -> NDArray[numpy.float32]:
    return half_size.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
