"""A TIFF whose deep planes lie apart in tiles, which libvips does not read -> one grey TIFF for each, which it does."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

BITS, PHOTOMETRIC, CHANNELS, PLANAR, OFFSETS, SIZES, EXTRA, SAMPLE_FORMAT = 258, 262, 277, 284, 324, 325, 338, 339
"""Fields of a TIFF."""

SHORT, LONG = 3, 4
CODES = {SHORT: "H", LONG: "I"}
"""Types of a field."""

GREY, RGB = 1, 2
APART = 2
MULTIPLIED = 1


@dataclass(frozen=True, kw_only=True)
class Planes:
    """The channels of such a file."""

    files: list[bytes]
    """A TIFF of each."""
    multiplied: bool
    """The last one is alpha, and the others are multiplied by it."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    kind: int
    values: tuple[int, ...]


def planes_apart(upload: bytes) -> Planes | None:
    """The channels of the first picture, if the file is of this kind.

    Raises:
        struct.error: it is broken.
    """
    if upload[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = "<" if upload[:2] == b"II" else ">"
    fields = _fields(upload, order)
    channels = _first(fields, CHANNELS)
    apart = _first(fields, PLANAR) == APART and OFFSETS in fields and SIZES in fields
    if not apart or channels not in range(1, 5) or _first(fields, PHOTOMETRIC) not in (GREY, RGB):
        return None
    tiles = len(fields[OFFSETS].values) // channels
    shared = {tag: field for tag, field in fields.items() if tag not in (PLANAR, EXTRA, SAMPLE_FORMAT)}
    shared |= {tag: _Field(kind=SHORT, values=(1,)) for tag in (CHANNELS, PHOTOMETRIC)}
    shared[BITS] = _Field(kind=SHORT, values=(_first(fields, BITS),))
    files = []
    for channel in range(channels):
        mine = slice(channel * tiles, (channel + 1) * tiles)
        of_tiles = {tag: _Field(kind=LONG, values=fields[tag].values[mine]) for tag in (OFFSETS, SIZES)}
        files.append(_with_fields(upload, order, shared | of_tiles))
    return Planes(files=files, multiplied=_first(fields, EXTRA) == MULTIPLIED)


def _first(fields: Mapping[int, _Field], tag: int) -> int:
    return fields[tag].values[0] if tag in fields and fields[tag].values else 0


def _fields(upload: bytes, order: str) -> dict[int, _Field]:
    """The fields that are whole numbers, which are all that say how pixels are kept."""
    (place,) = struct.unpack_from(order + "I", upload, 4)
    (count,) = struct.unpack_from(order + "H", upload, place)
    found = {}
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", upload, entry)
        if kind in CODES and values <= len(upload):
            form = f"{order}{values}{CODES[kind]}"
            (far,) = struct.unpack_from(order + "I", upload, entry + 8)
            at = entry + 8 if struct.calcsize(form) <= 4 else far
            found[tag] = _Field(kind=kind, values=struct.unpack_from(form, upload, at))
    return found


def _with_fields(upload: bytes, order: str, fields: Mapping[int, _Field]) -> bytes:
    """The same file with another directory, at its end."""
    file = upload + b"\0" * (len(upload) % 2)
    place = len(file)
    far = place + 2 + 12 * len(fields) + 4
    entries, values_after = b"", b""
    for tag, field in sorted(fields.items()):
        values = struct.pack(f"{order}{len(field.values)}{CODES[field.kind]}", *field.values)
        entries += struct.pack(order + "HHI", tag, field.kind, len(field.values))
        entries += values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(order + "I", far + len(values_after))
        values_after += values + b"\0" * (len(values) % 2) if len(values) > 4 else b""
    directory = struct.pack(order + "H", len(fields)) + entries + bytes(4)
    return file[:4] + struct.pack(order + "I", place) + file[8:] + directory + values_after
