"""Descriptions of colours other than a profile: chunks of a PNG, and the box `nclx` of an AVIF or HEIC.

All are kept as chunks of PNG, by kind. PNG specification (third edition), section 11.3.2; ITU-T H.273 for the numbers.
"""

import struct
from collections.abc import Mapping, Set

Colours = Mapping[bytes, bytes]
"""Contents of chunks by kind."""

CICP, VOLUME, LIGHT = b"cICP", b"mDCV", b"cLLI"
SIZES: Mapping[bytes, int] = {CICP: 4, VOLUME: 24, LIGHT: 8, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
"""Sizes of the chunks, in the order in which they are written."""

NAMES: Mapping[bytes, str] = {CICP: "cicp", VOLUME: "mdcv", LIGHT: "clli", b"gAMA": "gamma", b"cHRM": "chrm"}
"""Names for callers."""

NAMING = frozenset({CICP, b"sRGB", b"gAMA"})
"""Chunks that name the colours; with one of them, EXIF is ignored."""

SRGB_GAMMA = range(45_000, 46_000)
"""Values of gAMA that approximate sRGB's curve: 1/2.2 times 100000, rounded in several ways."""
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
"""x and y of white, red, green and blue times 100000."""
TOLERANCE = 200
"""Maximum difference of a chromaticity: files differ in the last digits."""

UNSPECIFIED = 2
UNNAMED = frozenset({0, UNSPECIFIED, 3})
"""Primaries and transfer characteristics that name nothing: unspecified, and reserved."""
SRGB_PRIMARIES, SRGB_TRANSFER = 1, 13

SHOWN_AS_SRGB = frozenset({1, UNSPECIFIED, 6, 14, 15})
"""Transfer characteristics that browsers show as sRGB in an AVIF: those of video (BT.709, BT.601, BT.2020), and none.

In a PNG they show those of video as defined, which is darker.
"""


def of_nclx(primaries: int, transfer: int) -> Colours:
    """Return the colours of RGB pixels that were decoded from a file with an `nclx`, as shown; none for sRGB."""
    primaries = SRGB_PRIMARIES if primaries == UNSPECIFIED else primaries
    transfer = SRGB_TRANSFER if transfer in SHOWN_AS_SRGB else transfer
    cicp = bytes((primaries, transfer, 0, 1))
    return {CICP: cicp} if has_effect(cicp) and not _is_srgb(CICP, cicp) else {}


def has_effect(cicp: bytes) -> bool:
    """Return False for a description that browsers ignore in a PNG, in favour of its other chunks.

    It is of other pixels than RGB, or does not name both primaries and transfer characteristics.
    """
    primaries, transfer, matrix, full_range = cicp
    return matrix == 0 and full_range <= 1 and UNNAMED.isdisjoint({primaries, transfer})


def of_light(volume: bytes | None, light: bytes | None) -> Colours:
    """Convert the boxes `mdcv` (mastering display) and `clli` (content light level) of an HDR picture to chunks.

    The box has green, blue and red in this order, and light in cd/m2; the chunk has red first, and 0.0001 cd/m2.
    """
    found = {VOLUME: volume[8:12] + volume[:8] + volume[12:24]} if volume and len(volume) >= 24 else {}
    if light and len(light) >= 4:
        found[LIGHT] = struct.pack(">II", *(10_000 * level for level in struct.unpack_from(">HH", light)))
    return found


def nclx(colours: Colours) -> tuple[int, int]:
    """Return primaries and transfer characteristics of RGB pixels; those of sRGB where none are named."""
    found = colours.get(CICP)
    return (found[0], found[1]) if found else (SRGB_PRIMARIES, SRGB_TRANSFER)


def is_narrow_range(cicp: bytes) -> bool:
    """Return True if black and white are 16 and 235 instead of 0 and 255."""
    return cicp[3] == 0


def lost_colours(colours: Colours, held: Set[bytes], *, profiled: bool) -> list[bytes]:
    """Return the descriptions that a format loses, except those of sRGB, which is the default.

    Args:
        held: kinds that the format has a place for.
        profiled: the picture has a profile.
    """
    if profiled or b"sRGB" in colours or (CICP in colours and CICP in held):
        held = held | {b"gAMA", b"cHRM"}  # which have no effect there
    return [kind for kind, body in colours.items() if kind in NAMES and kind not in held and not _is_srgb(kind, body)]


def _is_srgb(kind: bytes, body: bytes) -> bool:
    if kind == CICP:
        return body[:2] == bytes((SRGB_PRIMARIES, SRGB_TRANSFER)) and not is_narrow_range(body)
    values = [int.from_bytes(body[place : place + 4]) for place in range(0, len(body), 4)]
    if kind == b"gAMA":
        return values[0] in SRGB_GAMMA
    return kind == b"cHRM" and all(
        abs(value - srgb) <= TOLERANCE for value, srgb in zip(values, SRGB_CHROMATICITIES, strict=True)
    )
