"""Read an uncompressed BMP with a palette: Pillow misreads some grey palettes, and does not support 2 bits."""

import struct
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from model.pictures.errors import Damaged
from model.pictures.limits import Limits
from model.pictures.samples import Pixels, Samples

FILE_HEADER_BYTES = 14
CORE_HEADER_BYTES = 12
"""The oldest header, in which sizes have 16 bits and colours 3 bytes."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Header of an uncompressed BMP with a palette."""

    width: int
    height: int
    upside_down: bool
    """The first row in the file is the top one, which is unusual."""
    bits: int
    """Bits of a pixel: 1, 2, 4 or 8."""
    colours: NDArray[numpy.uint8]
    """RGB (256, 3); black where the file has fewer."""
    begins: int
    px_per_m: tuple[int, int]
    profile: bytes | None
    planes = 1
    frames = 1

    @property
    def row_bytes(self) -> int:
        """Size of a row in the file."""
        return -(-self.width * self.bits // 32) * 4

    def samples(self, file: bytes) -> Samples:
        """Return the samples, of 8 bits."""
        packed = numpy.frombuffer(file, numpy.uint8, self.height * self.row_bytes, self.begins)
        rows = packed.reshape(self.height, self.row_bytes)[:: 1 if self.upside_down else -1]
        in_byte = 8 // self.bits
        shifts = numpy.arange(8 - self.bits, -1, -self.bits, dtype=numpy.uint8)
        numbers = (rows.repeat(in_byte, axis=1) >> numpy.tile(shifts, self.row_bytes)) & numpy.uint8(2**self.bits - 1)
        colour: Pixels = self.colours[numbers[:, : self.width]]
        neutral = (self.colours == self.colours[:, :1]).all()
        return Samples(colour=colour, alpha=None, grey=bool(neutral))


def has_palette(file: bytes) -> bool:
    """Return True if a BMP has a palette and is not compressed."""
    header_bytes, *_, bits, compression = _fields(file)
    return bits in (1, 2, 4, 8) and (header_bytes == CORE_HEADER_BYTES or compression == 0)


def _fields(file: bytes) -> tuple[int, int, int, int, int]:
    """Return the size of the header, width, height, bits and compression."""
    start = file[FILE_HEADER_BYTES:34].ljust(20, b"\0")
    if start.startswith(struct.pack("<I", CORE_HEADER_BYTES)):
        header_bytes, width, height, _, bits = struct.unpack_from("<IHHHH", start)
        return header_bytes, width, height, bits, 0
    header_bytes, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", start)
    return header_bytes, width, height, bits, compression


def palette(file: bytes, limits: Limits, profile: bytes | None) -> Palette:
    """Read the header.

    Raises:
        OverLimit: more than the limits allow.
        Damaged: it is truncated, or has no size.
    """
    header_bytes, width, height, bits, _ = _fields(file)
    start = FILE_HEADER_BYTES + header_bytes
    core = header_bytes == CORE_HEADER_BYTES
    if len(file) < start:
        raise Damaged(f"the BMP file is truncated: it ends at byte {len(file)}, in its header")
    limits.check_size(width, abs(height), len(file))
    (begins,) = struct.unpack_from("<I", file, 10)
    used = 0 if core else struct.unpack_from("<I", file, 46)[0]
    found = Palette(
        width=width,
        height=abs(height),
        upside_down=height < 0,
        bits=bits,
        colours=_colours(file[start:begins], 3 if core else 4, min(used or 2**bits, 2**bits)),
        begins=begins,
        px_per_m=(0, 0) if core else struct.unpack_from("<ii", file, 38),
        profile=profile,
    )
    if width < 1 or not height or begins + found.row_bytes * found.height > len(file):
        raise Damaged(f"the BMP file is truncated or corrupt: {width} x {abs(height)} px are not in it")
    return found


def _colours(table: bytes, entry_bytes: int, number: int) -> NDArray[numpy.uint8]:
    number = min(number, len(table) // entry_bytes)
    colours = numpy.zeros((256, 3), numpy.uint8)
    entries = numpy.frombuffer(table, numpy.uint8, number * entry_bytes).reshape(number, entry_bytes)
    colours[:number] = entries[:, 2::-1]
    return colours
