"""Read a BMP with bit fields, which give the position of each channel in a pixel, or with 16 bits and none.

Pillow reads the other kinds; it would round these down.
"""

import struct
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from model.pictures.bmp_palette import Palette, has_palette, palette
from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.samples import SLICE_ROWS, Pixels, Samples

BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
"""Values of the compression field."""

RUNS = (1, 2)
"""Values of the compression field for runs of pixels (RLE8 and RLE4), which Pillow decodes."""

MAX_RUN_BYTES = 3
"""Maximum bytes of runs for a pixel; a run has two bytes, and a step over pixels four."""

OF_5_BITS = (0x7C00, 0x3E0, 0x1F, 0)
"""Masks of a file with 16 bits and no masks."""

V3_HEADER_BYTES = 56
"""Size of the first header version that always has an alpha mask."""

V5_HEADER_BYTES = 124
WITH_PROFILE = b"MBED"[::-1]
"""Size of the only header version that may have a profile, and its colour space field if it does."""


@dataclass(frozen=True, kw_only=True)
class BitFields:
    """Header of a BMP with bit fields, or with 16 bits and none."""

    width: int
    height: int
    upside_down: bool
    """The first row in the file is the top one, which is unusual."""
    bits: int
    """Bits of a pixel: 16 or 32."""
    masks: tuple[int, ...]
    """Masks of red, green, blue, and alpha if there is any, in a pixel."""
    begins: int
    px_per_m: tuple[int, int]
    profile: bytes | None
    frames = 1

    @property
    def planes(self) -> int:
        """Maximum planes of the picture: two if it may be transparent."""
        return 2 if len(self.masks) == 4 else 1

    def samples(self, file: bytes) -> Samples:
        """Return the samples, in 8 bits. An alpha field in which no bit is set counts as absent."""
        kind = numpy.dtype("<u2" if self.bits == 16 else "<u4")
        row_px = -(-self.width * self.bits // 32) * 32 // self.bits
        stored = numpy.frombuffer(file, kind, self.height * row_px, self.begins).reshape(self.height, row_px)
        rows = stored[:: 1 if self.upside_down else -1, : self.width]
        pixels = numpy.empty((self.height, self.width, len(self.masks)), numpy.uint8)
        for top in range(0, self.height, SLICE_ROWS):
            some = slice(top, top + SLICE_ROWS)
            for channel, mask in enumerate(self.masks):
                pixels[some, :, channel] = _levels(rows[some], mask)
        alpha = pixels[..., 3] if len(self.masks) == 4 and pixels[..., 3].any() else None
        return Samples(colour=pixels[..., :3], alpha=alpha, grey=False)


Kind = BitFields | Palette
"""Header of a BMP that is read without Pillow."""


def kind_of(file: bytes, limits: Limits) -> Kind | None:
    """Read the header of a BMP that is not left to Pillow; None for one that is.

    Raises:
        OverLimit: more than the limits allow.
        Damaged: it is truncated.
    """
    if has_bit_fields(file):
        return bit_fields(file, limits)
    return palette(file, limits, profile_of(file, limits)) if has_palette(file) else None


def bit_fields(file: bytes, limits: Limits) -> BitFields:
    """Read the header of a BMP with bit fields, or with 16 bits and none.

    Raises:
        OverLimit: more than the limits allow.
        Damaged: it is truncated.
    """
    if len(file) < 54:
        raise Damaged(f"the BMP file is truncated: it ends at byte {len(file)}, in its header")
    (begins,) = struct.unpack_from("<I", file, 10)
    header_bytes, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", file, 14)
    has_alpha = compression == ALPHA_BIT_FIELDS or header_bytes >= V3_HEADER_BYTES
    masks = struct.unpack("<4I", file[54:70].ljust(16, b"\0")) if compression else OF_5_BITS
    limits.check_size(width, abs(height), len(file))
    row_bytes = -(-width * bits // 32) * 4
    if width < 1 or not height or begins + row_bytes * abs(height) > len(file):
        raise Damaged(f"the BMP file is truncated or corrupt: {width} x {height} px are not in it")
    return BitFields(
        width=width,
        height=abs(height),
        upside_down=height < 0,
        bits=bits,
        masks=masks if has_alpha and masks[3] else masks[:3],
        begins=begins,
        px_per_m=struct.unpack_from("<ii", file, 38),
        profile=profile_of(file, limits),
    )


def profile_of(file: bytes, limits: Limits) -> bytes | None:
    """Return the colour profile within a BMP of any kind.

    Raises:
        OverLimit: it is too large.
    """
    if len(file) < 14 + V5_HEADER_BYTES or file[14:18] != V5_HEADER_BYTES.to_bytes(4, "little"):
        return None
    place, size = struct.unpack_from("<II", file, 126)
    if file[70:74] != WITH_PROFILE or not size:
        return None
    limits.check_metadata("the profile of the BMP", size)
    return file[14 + place : 14 + place + size]


def has_bit_fields(file: bytes) -> bool:
    """Return True if a BMP has bit fields, or 16 bits and none: then each channel has 5 bits."""
    header_bytes, _, _, _, bits, compression = struct.unpack_from("<IiiHHI", file.ljust(34, b"\0"), 14)
    named = compression in (BIT_FIELDS, ALPHA_BIT_FIELDS) and bits in (16, 32)
    return header_bytes >= 40 and (named or (compression, bits) == (0, 16))


def without_excess(file: bytes) -> bytes:
    """Return a BMP without more runs than its pixels need: Pillow takes time for each, also where it has no pixel."""
    begins, header_bytes, width, height, _, _, compression = struct.unpack_from("<IIiiHHI", file.ljust(34, b"\0"), 10)
    if header_bytes < 40 or compression not in RUNS:
        return file
    return file[: begins + MAX_RUN_BYTES * (abs(width) + 2) * (abs(height) + 1)]


def _levels(rows: NDArray[numpy.unsignedinteger], mask: int) -> Pixels:
    """Return the channel that a mask selects, in 8 bits."""
    if not mask:
        return numpy.zeros(rows.shape, numpy.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    levels = ((rows & numpy.array(mask, rows.dtype)) >> numpy.array(shift, rows.dtype)).astype(numpy.uint64)
    scaled: Pixels = ((levels * 255 + most // 2) // most).astype(numpy.uint8)
    return scaled
