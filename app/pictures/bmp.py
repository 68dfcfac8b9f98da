"""A BMP with bit fields of any size, which Pillow does not read -> the same picture as a PNG that it does."""

import struct
from dataclasses import dataclass

import numpy
import pyvips
from numpy.typing import NDArray

from app.errors import Unprocessable, UnsupportedFormat
from app.pictures.limits import Limits
from app.pictures.picture import Pixels

BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
"""Kinds of compression, as BMP calls it."""

V3_HEADER_BYTES = 56
"""The first header that always has a field for alpha."""


@dataclass(frozen=True, kw_only=True)
class BitFields:
    """The header of such a file."""

    width: int
    height: int
    upside_down: bool
    """Its rows begin at the top, which is not usual."""
    bits: int
    """Of a pixel: 16 or 32."""
    masks: tuple[int, ...]
    """Where red, green, blue, and alpha if there is any, are in a pixel."""
    begins: int
    px_per_m: tuple[int, int]


def bit_fields(upload: bytes, limits: Limits) -> BitFields:
    """Read the header.

    Raises:
        UnsupportedFormat: it is a BMP of yet another kind.
        TooLarge: more than the limits allow.
        Unprocessable: it is truncated.
    """
    if len(upload) < 70:
        raise Unprocessable(f"the BMP file is truncated: it ends at byte {len(upload)}, in its header")
    (begins,) = struct.unpack_from("<I", upload, 10)
    header_bytes, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", upload, 14)
    if header_bytes < 40 or bits not in (16, 32) or compression not in (BIT_FIELDS, ALPHA_BIT_FIELDS):
        raise UnsupportedFormat("a BMP of this rare kind is not accepted; save it as an ordinary one or as PNG")
    has_alpha = compression == ALPHA_BIT_FIELDS or header_bytes >= V3_HEADER_BYTES
    masks = struct.unpack_from("<4I", upload, 54)
    limits.check_size(width, abs(height), len(upload))
    row_bytes = -(-width * bits // 32) * 4
    if width < 1 or not height or begins + row_bytes * abs(height) > len(upload):
        raise Unprocessable(f"the BMP file is truncated or corrupt: {width} x {height} px are not in it")
    return BitFields(
        width=width,
        height=abs(height),
        upside_down=height < 0,
        bits=bits,
        masks=masks if has_alpha and masks[3] else masks[:3],
        begins=begins,
        px_per_m=struct.unpack_from("<ii", upload, 38),
    )


def png_of_bmp(upload: bytes, limits: Limits) -> bytes:
    """The picture in a PNG, of 8 bits a channel.

    Raises:
        UnsupportedFormat, TooLarge, Unprocessable: see `bit_fields`.
    """
    found = bit_fields(upload, limits)
    kind = numpy.dtype("<u2" if found.bits == 16 else "<u4")
    row_px = -(-found.width * found.bits // 32) * 32 // found.bits
    stored = numpy.frombuffer(upload, kind, found.height * row_px, found.begins).reshape(found.height, row_px)
    rows = stored[:: 1 if found.upside_down else -1, : found.width]
    pixels: Pixels = numpy.stack([_levels(rows, mask) for mask in found.masks], axis=-1)
    across, down = (max(0, per_m) / 1000 for per_m in found.px_per_m)
    made = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb", xres=across, yres=down)
    file: bytes = made.pngsave_buffer(compression=0)
    return file


def _levels(rows: NDArray[numpy.unsignedinteger], mask: int) -> Pixels:
    """The channel that a mask cuts out, in 8 bits."""
    if not mask:
        return numpy.zeros(rows.shape, numpy.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    levels = ((rows & numpy.array(mask, rows.dtype)) >> numpy.array(shift, rows.dtype)).astype(numpy.uint64)
    scaled: Pixels = ((levels * 255 + most // 2) // most).astype(numpy.uint8)
    return scaled
