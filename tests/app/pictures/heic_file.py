"""A HEIC of one block of raw samples, written by hand, because no HEVC encoder may be used here."""

import re
import struct

import numpy
from numpy.typing import NDArray

SIDE = 16
"""Side of the picture in px."""

ONE_RAW_BLOCK = bytes((0b1000_0110, 0b1000_0000))
"""Output of HEVC's arithmetic coder for a single raw block; the raw samples follow."""
NO_FURTHER_BLOCK = bytes((0b1111_1110, 0b1000_0000))

VIDEO_PARAMETERS, SEQUENCE_PARAMETERS, PICTURE_PARAMETERS, KEY_PICTURE = 32, 33, 34, 19
"""Types of HEVC's units."""


def heic(
    luma: NDArray[numpy.uint16], blue: NDArray[numpy.uint16] | None = None, *, bits: int = 8, quarter_turns: int = 0
) -> bytes:
    """Make a HEIC of levels (SIDE, SIDE).

    Args:
        blue: chroma Cb (SIDE / 2, SIDE / 2); grey by default.
        bits: bits of a level.
        quarter_turns: anticlockwise, to be applied by the decoder.
    """
    units = {
        VIDEO_PARAMETERS: _bits("0000 1 1 000000 000 1", "1" * 16, _profile(), "1 1 1 1 000000 1 0 0 1"),
        SEQUENCE_PARAMETERS: _bits(_sequence(bits)),
        PICTURE_PARAMETERS: _bits("1 1 0 0 000 0 0 1 1 1 0 0 0 1 1 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 1"),
    }
    none = numpy.full((SIDE // 2, SIDE // 2), 2 ** (bits - 1))
    planes = luma, none if blue is None else blue, none
    samples = "".join(f"{level:0{bits}b}" for plane in planes for level in plane.ravel().tolist())
    data = _bits("1 0 1 011 1 1") + ONE_RAW_BLOCK + _bits(samples) + NO_FURTHER_BLOCK
    picture = _unit(KEY_PICTURE, data)
    media = struct.pack(">I", len(picture)) + picture
    properties = _box(b"hvcC", _setup(units, bits)), _full(b"ispe", struct.pack(">II", SIDE, SIDE)), _full_range()
    turn: tuple[bytes, ...] = (_box(b"irot", bytes([quarter_turns])),) if quarter_turns else ()
    before = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    location = len(before + _meta(properties + turn, 0, len(media))) + 8
    return before + _meta(properties + turn, location, len(media)) + _box(b"mdat", media)


def _meta(properties: tuple[bytes, ...], location: int, size: int) -> bytes:
    """Make the metadata box of a picture whose coded samples are at this location of the file."""
    of_item = bytes(range(1, 1 + len(properties)))
    said_of_item = _full(b"ipma", struct.pack(">IHB", 1, 1, len(of_item)) + of_item)
    item = _full(b"infe", struct.pack(">HH4sB", 1, 0, b"hvc1", 0), version=2)
    return _full(
        b"meta",
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        + _full(b"pitm", struct.pack(">H", 1))
        + _full(b"iinf", struct.pack(">H", 1) + item)
        + _box(b"iprp", _box(b"ipco", b"".join(properties)) + said_of_item)
        + _full(b"iloc", b"\x44\0" + struct.pack(">HHHHII", 1, 1, 0, 1, location, size)),
    )


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + content)


def _full_range() -> bytes:
    return _box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80))


def _bits(*parts: str) -> bytes:
    """Convert written-out bits to bytes, padded with zeros."""
    said = "".join(parts).replace(" ", "")
    return int(said.ljust(-(-len(said) // 8) * 8, "0"), 2).to_bytes(-(-len(said) // 8))


def _number(value: int) -> str:
    """Encode an unsigned number as HEVC does."""
    return f"{value + 1:b}".rjust(2 * (value + 1).bit_length() - 1, "0")


def _profile() -> str:
    return f"00 0 00010 {0x20000000:032b} 1 0 0 1 {'0' * 44} {30:08b}"  # Main 10, which 8 bits may also be


def _sequence(bits: int) -> str:
    size, depth = _number(SIDE), _number(bits - 8)
    blocks = _number(1) + _number(0) + _number(0) + _number(2)  # of 16 px, transforms of 4 to 16
    raw = f"1 {bits - 1:04b} {bits - 1:04b}" + _number(1) + _number(0) + "1"
    what = f"0000 000 1 {_profile()} 1 010 {size} {size} 0 {depth} {depth} 1"
    return f"{what} 1 1 1 1 {blocks} 1 1 0 0 0 {raw} 1 0 0 0 0 0 1"


def _unit(kind: int, content: bytes) -> bytes:
    escaped = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", content)
    return bytes((kind << 1, 1)) + escaped


def _setup(units: dict[int, bytes], bits: int) -> bytes:
    depth = 0xF8 | bits - 8
    constraints, shape = b"\x90", (0xF000, 0xFC, 0xFD, depth, depth, 0, 0x0F)
    head = struct.pack(">BBI6sBHBBBBHB", 1, 2, 0x20000000, constraints, 30, *shape) + bytes([len(units)])
    for kind, content in units.items():
        unit = _unit(kind, content)
        head += struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit
    return head
