"""Encodes frames as an animated PNG: PNG specification (third edition), section 11.3.6."""

import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy
from isal import isal_zlib

from app.png.deflate import Compression, deflated, max_deflated_bytes
from app.png.encoder import ZLIB_HEADER, PngLayout, chunk
from app.png.filters import SampleArray, filter_rows

MAX_DELAY = 65_535
"""Maximum of the numerator and the denominator of a delay in seconds."""


@dataclass(frozen=True, kw_only=True)
class EncodedFrame:
    """A rectangle that replaces a part of the frame before."""

    left: int
    top: int
    width: int
    height: int
    duration_ms: float
    data: bytes
    """Its pixels: in a PNG, made by `compressed`."""


def compressed(pixels: SampleArray, compression: Compression) -> bytes:
    """Filter and compress the pixels (H, W, C) of a frame to a zlib stream."""
    filtered = numpy.empty((len(pixels), 1 + pixels[0].nbytes), numpy.uint8)
    filter_rows(pixels, None, filtered)
    work = numpy.empty(max_deflated_bytes(filtered.size), numpy.uint8)
    body = deflated(filtered, last=True, work=work, compression=compression)
    return b"".join((ZLIB_HEADER, *body, isal_zlib.adler32(filtered).to_bytes(4)))


def head(layout: PngLayout, frames: int, plays: int) -> bytes:
    """Return the file up to its first frame.

    Args:
        plays: number of plays; 0 for endless.
    """
    return layout.head() + chunk(b"acTL", struct.pack(">II", frames, min(plays, 2**31 - 1)))


def frame_chunks(frame: EncodedFrame, sequence: int) -> tuple[bytes, int]:
    """Return the chunks of a frame, and the sequence number of the next one.

    Args:
        sequence: 0 for the first frame, which is also what readers without animation show.
    """
    delay = _delay(frame.duration_ms)
    control = struct.pack(
        ">IIIIIHHBB",
        sequence,
        frame.width,
        frame.height,
        frame.left,
        frame.top,
        delay.numerator,
        delay.denominator,
        0,  # leave the frame as it is
        0,  # replace what is below
    )
    if sequence == 0:
        return chunk(b"fcTL", control) + chunk(b"IDAT", frame.data), 1
    data = chunk(b"fdAT", (sequence + 1).to_bytes(4), frame.data)
    return chunk(b"fcTL", control) + data, sequence + 2


def tail() -> bytes:
    """Return the end of the file."""
    return chunk(b"IEND", b"")


def _delay(ms: float) -> Fraction:
    """Return a delay in seconds that two numbers of 16 bits hold."""
    seconds = min(Fraction(ms) / 1000, Fraction(MAX_DELAY))
    return seconds.limit_denominator(int(MAX_DELAY / max(seconds, Fraction(1))))
