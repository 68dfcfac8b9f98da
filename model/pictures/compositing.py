"""Frames of an animation as they are shown, put together from the pieces that a file stores."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from model.pictures.samples import SLICE_ROWS, Samples

KEEP, CLEAR, RESTORE = range(3)
"""Disposal of a frame, numbered as in APNG: keep its pixels, clear its area, or restore the area from before."""

Rgba = NDArray[numpy.uint8]
"""(H, W, 4), colour not multiplied by alpha."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A frame as it is stored: a part of the picture."""

    left: int
    top: int
    pixels: Rgba
    grey: bool
    blend: bool
    """Blend over the canvas; False: replace its pixels."""
    disposal: int
    """Disposal: `KEEP`, `CLEAR` or `RESTORE`."""
    duration_ms: float


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame as shown, with everything that earlier frames left visible."""

    samples: Samples
    duration_ms: float


def composed(pieces: Iterable[Piece], width: int, height: int) -> Iterator[Frame]:
    """Draw pieces on a canvas that is clear at first, as section 4 of the PNG specification (third edition) says."""
    canvas, grey = numpy.zeros((height, width, 4), numpy.uint8), True
    for piece in pieces:
        grey = grey and piece.grey  # it may leave the colours of earlier ones visible
        down, across = piece.pixels.shape[:2]
        place = canvas[piece.top : piece.top + down, piece.left : piece.left + across]
        before = place.copy() if piece.disposal == RESTORE else None
        if piece.blend:
            _draw_over(place, piece.pixels)
        else:
            place[:] = piece.pixels
        shown = canvas.copy()
        alpha = None if shown[..., 3].min() == 255 else shown[..., 3]
        yield Frame(samples=Samples(colour=shown[..., :3], alpha=alpha, grey=grey), duration_ms=piece.duration_ms)
        if piece.disposal == CLEAR:
            place[:] = 0
        elif before is not None:
            place[:] = before


def rgba(samples: Samples) -> Rgba:
    """Return samples of 8 bits as one array."""
    pixels = numpy.full((*samples.colour.shape[:2], 4), 255, numpy.uint8)
    pixels[..., :3] = samples.colour
    if samples.alpha is not None:
        pixels[..., 3] = samples.alpha
    return pixels


def _draw_over(canvas: Rgba, pixels: Rgba) -> None:
    """Draw pixels over those of a canvas, in place (PNG specification, section 13.16)."""
    for top in range(0, len(canvas), SLICE_ROWS):
        below, drawn = canvas[top : top + SLICE_ROWS], pixels[top : top + SLICE_ROWS]
        share = drawn[..., 3:] / numpy.float32(255)
        left = (1 - share) * below[..., 3:] / numpy.float32(255)
        alpha = share + left
        colour = (share * drawn[..., :3] + left * below[..., :3]) / numpy.maximum(alpha, 1 / 255)
        below[..., :3] = colour.round()
        below[..., 3:] = (255 * alpha).round()
