"""Read a BMP that Pillow would misread: with bit fields, with 16 bits, or with a palette that is not compressed.

Bit fields give the position of each channel in a pixel; Pillow rounds them down. It misreads some grey palettes, and
does not support those of 2 bits.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.samples import SLICE_ROWS, Pixels, Samples

FILE_HEADER_BYTES = 14
CORE_HEADER_BYTES = 12
"""The oldest header, in which sizes have 16 bits and colours 3 bytes."""

INFO_HEADER_BYTES = 40
"""The first header with a compression; bit fields follow it."""

V3_HEADER_BYTES = 56
"""Size of the first header version that always has an alpha mask."""

V5_HEADER_BYTES = 124
WITH_PROFILE = b"MBED"[::-1]
"""Size of the only header version that may have a profile, and its colour space field if it does."""

BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
"""Values of the compression field."""

RUNS = (1, 2)
"""Values of the compression field for runs of pixels (RLE8 and RLE4), which Pillow decodes."""

MAX_RUN_BYTES = 3
"""Maximum bytes of runs for a pixel; a run has two bytes, and a step over pixels four."""

OF_5_BITS = (0x7C00, 0x3E0, 0x1F, 0)
"""Masks of a file with 16 bits and no masks."""


class _Fields(NamedTuple):
    """The header behind that of the file; its fields are 0 where the file ends before them."""

    header_bytes: int
    width: int
    height: int
    """Negative if the first row in the file is the top one, which is unusual."""
    planes: int
    bits: int
    """Bits of a pixel."""
    compression: int = 0
    pixel_bytes: int = 0
    px_per_m_across: int = 0
    px_per_m_down: int = 0
    colours: int = 0
    """Colours of the palette; 0 for all that the bits can number."""

    @classmethod
    def of(cls, file: bytes) -> "_Fields":
        start = file[FILE_HEADER_BYTES : FILE_HEADER_BYTES + INFO_HEADER_BYTES].ljust(INFO_HEADER_BYTES, b"\0")
        is_core = start.startswith(struct.pack("<I", CORE_HEADER_BYTES))
        return cls(*struct.unpack_from("<IHHHH" if is_core else "<IiiHHIIiiI", start))

    @property
    def row_bytes(self) -> int:
        """Size of a row in the file."""
        return -(-self.width * self.bits // 32) * 4

    @property
    def has_bit_fields(self) -> bool:
        """True for bit fields, or 16 bits and none: then each channel has 5 bits."""
        named = self.compression in (BIT_FIELDS, ALPHA_BIT_FIELDS) and self.bits in (16, 32)
        return self.header_bytes >= INFO_HEADER_BYTES and (named or (self.compression, self.bits) == (0, 16))

    @property
    def has_palette(self) -> bool:
        """True for a palette that is not compressed."""
        return self.bits in (1, 2, 4, 8) and self.compression == 0


@dataclass(frozen=True, kw_only=True)
class BmpHeader:
    """Header of a BMP that is read without Pillow."""

    fields: _Fields
    begins: int
    """Offset of the pixels."""
    masks: tuple[int, ...]
    """Masks of red, green, blue, and alpha if there is any, in a pixel; none where there is a palette."""
    profile: bytes | None
    frames = 1

    @property
    def width(self) -> int:
        """Width in px."""
        return self.fields.width

    @property
    def height(self) -> int:
        """Height in px."""
        return abs(self.fields.height)

    @property
    def px_per_m(self) -> tuple[int, int]:
        """Resolution, horizontally and vertically; 0 for none."""
        return self.fields.px_per_m_across, self.fields.px_per_m_down

    @property
    def planes(self) -> int:
        """Maximum planes of the picture: two if it may be transparent."""
        return 2 if len(self.masks) == 4 else 1

    def samples(self, file: bytes) -> Samples:
        """Return the samples, in 8 bits."""
        stored = numpy.frombuffer(file, numpy.uint8, self.height * self.fields.row_bytes, self.begins)
        rows = stored.reshape(self.height, -1)[:: 1 if self.fields.height < 0 else -1]
        return self._of_bit_fields(rows) if self.masks else self._of_palette(rows, file)

    def _of_bit_fields(self, rows: NDArray[numpy.uint8]) -> Samples:
        """Return the samples of bit fields. An alpha field in which no bit is set counts as absent."""
        stored = rows.view("<u2" if self.fields.bits == 16 else "<u4")[:, : self.width]
        pixels = numpy.empty((self.height, self.width, len(self.masks)), numpy.uint8)
        for top in range(0, self.height, SLICE_ROWS):
            some = slice(top, top + SLICE_ROWS)
            for channel, mask in enumerate(self.masks):
                pixels[some, :, channel] = _levels(stored[some], mask)
        alpha = pixels[..., 3] if len(self.masks) == 4 and pixels[..., 3].any() else None
        return Samples(colour=pixels[..., :3], alpha=alpha, grey=False)

    def _of_palette(self, rows: NDArray[numpy.uint8], file: bytes) -> Samples:
        bits, colours = self.fields.bits, self._colours(file)
        shifts = numpy.arange(8 - bits, -1, -bits, dtype=numpy.uint8)
        numbers = (rows.repeat(8 // bits, axis=1) >> numpy.tile(shifts, rows.shape[1])) & numpy.uint8(2**bits - 1)
        colour: Pixels = colours[numbers[:, : self.width]]
        return Samples(colour=colour, alpha=None, grey=bool((colours == colours[:, :1]).all()))

    def _colours(self, file: bytes) -> NDArray[numpy.uint8]:
        """Return the colours (256, 3) of the palette; black where the file has fewer."""
        table = file[FILE_HEADER_BYTES + self.fields.header_bytes : self.begins]
        entry_bytes = 3 if self.fields.header_bytes == CORE_HEADER_BYTES else 4
        most = 2**self.fields.bits
        number = min(self.fields.colours or most, most, len(table) // entry_bytes)
        colours = numpy.zeros((256, 3), numpy.uint8)
        colours[:number] = numpy.frombuffer(table, numpy.uint8, number * entry_bytes).reshape(number, entry_bytes)[
            :, 2::-1
        ]
        return colours


def bmp_header(file: bytes, limits: Limits) -> BmpHeader | None:
    """Read the header of a BMP; None for one that is left to Pillow.

    Raises:
        OverLimit: more than the limits allow.
        Damaged: it is truncated, or has no size.
    """
    fields = _Fields.of(file)
    if not fields.has_bit_fields and not fields.has_palette:
        return None
    known_bytes = INFO_HEADER_BYTES if fields.has_bit_fields else fields.header_bytes
    if len(file) < FILE_HEADER_BYTES + known_bytes:
        raise Damaged(f"the BMP file is truncated: it ends at byte {len(file)}, in its header")
    width, height = fields.width, abs(fields.height)
    limits.check_size(width, height, len(file))
    begins = int.from_bytes(file[10:14], "little")
    if width < 1 or not height or begins + fields.row_bytes * height > len(file):
        raise Damaged(f"the BMP file is truncated or corrupt: {width} x {height} px are not in it")
    masks = _masks(file, fields) if fields.has_bit_fields else ()
    return BmpHeader(fields=fields, begins=begins, masks=masks, profile=profile_of(file, limits))


def _masks(file: bytes, fields: _Fields) -> tuple[int, ...]:
    masks = struct.unpack("<4I", file[54:70].ljust(16, b"\0")) if fields.compression else OF_5_BITS
    has_alpha = fields.compression == ALPHA_BIT_FIELDS or fields.header_bytes >= V3_HEADER_BYTES
    return masks if has_alpha and masks[3] else masks[:3]


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


def without_excess(file: bytes) -> bytes:
    """Return a BMP without more runs than its pixels need: Pillow takes time for each, also where it has no pixel."""
    fields = _Fields.of(file)
    if fields.header_bytes < INFO_HEADER_BYTES or fields.compression not in RUNS:
        return file
    begins = int.from_bytes(file[10:14], "little")
    return file[: begins + MAX_RUN_BYTES * (abs(fields.width) + 2) * (abs(fields.height) + 1)]


def _levels(rows: NDArray[numpy.unsignedinteger], mask: int) -> Pixels:
    """Return the channel that a mask selects, in 8 bits."""
    if not mask:
        return numpy.zeros(rows.shape, numpy.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    levels = ((rows & numpy.array(mask, rows.dtype)) >> numpy.array(shift, rows.dtype)).astype(numpy.uint64)
    scaled: Pixels = ((levels * 255 + most // 2) // most).astype(numpy.uint8)
    return scaled
