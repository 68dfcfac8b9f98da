"""ICC profiles: which ones an answer may carry, and new ones for other channels.

ICC.1:2022, section 7. Numbers are big-endian; `s15Fixed16` counts in steps of 1/65536.
"""

import struct
from collections.abc import Mapping
from typing import Literal

Space = Literal[b"GRAY", b"RGB "]
"""Colour spaces of answers, as spelled in profiles."""

HEADER_BYTES = 128
SPACE, CONNECTION, PROFILE_ID = slice(16, 20), slice(20, 24), slice(84, 100)
CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
"""Classes of profiles that describe pixels."""

TONE_CURVES = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}
TABLE = b"A2B0"
COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")
SHARED_TAGS = (b"desc", b"cprt", b"wtpt", b"chad")
"""Tags that stay valid when a profile is rewritten for other channels."""

D50 = (0.9642, 1.0, 0.8249)
D65 = (0.95045, 1.0, 1.08905)
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""X, Y and Z of red, green and blue, adapted to D50."""
ADOBE_PRIMARIES = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
ADOBE_GAMMA = 563 / 256

Tags = Mapping[bytes, bytes]
"""Contents of a profile by signature."""


def usable_profile(data: object) -> bytes | None:
    """Return the profile at the start of some data, if it describes grey or RGB pixels and readers can use it."""
    if not isinstance(data, bytes):
        return None
    size = int.from_bytes(data[:4])
    profile = data[:size]
    if not HEADER_BYTES + 4 <= size == len(profile) or profile[36:40] != b"acsp" or profile[12:16] not in CLASSES:
        return None
    tags = _tags(profile)
    if tags is None or profile[CONNECTION] not in (b"XYZ ", b"Lab "):
        return None
    needed = TONE_CURVES.get(profile[SPACE])
    return profile if needed and (TABLE in tags or tags.keys() >= {*needed}) else None


def space_of(profile: bytes) -> bytes:
    """Return the colour space of a profile."""
    return profile[SPACE]


def profile_for(space: Space, profile: bytes) -> bytes | None:
    """Return a profile for the channels of an answer that keeps the meaning of neutral colours, if there is one.

    A grey level in an RGB profile means three equal levels; so the profile's tone curve is used, if all three are
    equal.
    """
    if space_of(profile) == space:
        return profile
    tags = _tags(profile) or {}
    curves = {tags.get(name) for name in TONE_CURVES[profile[SPACE]]}
    curve = curves.pop()
    if curves or curve is None or profile[CONNECTION] != b"XYZ ":
        return None
    made = {name: tags[name] for name in SHARED_TAGS if name in tags} | dict.fromkeys(TONE_CURVES[space], curve)
    if space == b"RGB ":
        made |= {name: _xyz(*colour) for name, colour in zip(COLORANTS, SRGB_PRIMARIES, strict=True)}
    header = bytearray(profile[:HEADER_BYTES])
    header[SPACE], header[PROFILE_ID] = space, bytes(16)
    return _profile(bytes(header), made)


def adobe_rgb() -> bytes:
    """Make a profile of Adobe RGB (1998), for files that name these colours only in EXIF."""
    made = {
        b"desc": _description("Compatible with Adobe RGB (1998)"),
        b"cprt": b"text" + bytes(4) + b"No copyright, use freely\0",
        b"wtpt": _xyz(*D65),
        **{name: _xyz(*colour) for name, colour in zip(COLORANTS, ADOBE_PRIMARIES, strict=True)},
        **dict.fromkeys(TONE_CURVES[b"RGB "], b"curv" + bytes(4) + struct.pack(">IH", 1, round(ADOBE_GAMMA * 256))),
    }
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    before = struct.pack(">4xII4s4s4s12s", 0, 0x02400000, b"mntr", b"RGB ", b"XYZ ", date)
    header = before + b"acsp" + bytes(28) + struct.pack(">3i", *map(_fixed, D50))
    return _profile(header.ljust(HEADER_BYTES, b"\0"), made)


def _tags(profile: bytes) -> Tags | None:
    """Return the contents of a profile; None if one of them is outside of it."""
    (count,) = struct.unpack_from(">I", profile, HEADER_BYTES)
    start = HEADER_BYTES + 4
    if count > (len(profile) - start) // 12:
        return None
    view, found = memoryview(profile), {}
    for name, offset, size in struct.iter_unpack(">4sII", view[start : start + 12 * count]):
        if offset + size > len(profile):
            return None
        found[name] = view[offset : offset + size]
    tags = (*SHARED_TAGS, TABLE, *COLORANTS, *TONE_CURVES[b"RGB "], *TONE_CURVES[b"GRAY"])
    return {name: bytes(found[name]) for name in tags if name in found}


def _profile(header: bytes, tags: Tags) -> bytes:
    """Write a profile; equal contents are written once."""
    table, contents = struct.pack(">I", len(tags)), bytearray()
    start, offsets = HEADER_BYTES + 4 + 12 * len(tags), dict[bytes, int]()
    for name, content in tags.items():
        if content not in offsets:
            offsets[content] = start + len(contents)
            contents += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, offsets[content], len(content))
    return (start + len(contents)).to_bytes(4) + header[4:] + table + contents


def _fixed(value: float) -> int:
    return round(value * 65536)


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", _fixed(x), _fixed(y), _fixed(z))


def _description(text: str) -> bytes:
    """Return a textDescriptionType of version 2 with empty Unicode and Macintosh parts."""
    ascii_text = text.encode("ascii") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(8 + 3 + 67)
