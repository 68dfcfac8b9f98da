"""Colour profiles of BMP and GIF, which Pillow does not look for."""

import struct
from collections.abc import Callable

import pytest

from model.pictures.errors import OverLimit
from model.pictures.limits import Limits
from model.pictures.reading import read, read_header
from tests.model.pictures.test_animations import PALETTE, Part, extension, gif

LIMITS = Limits(max_picture_px=10_000, max_width_px=10_000, max_frames=20, max_metadata_bytes=900, max_expansion=1000)
PROFILE = bytes(range(256)) * 3
KINDS = {"bit fields": (16, 3), "16 bits": (16, 0), "palette": (8, 0), "24 bits": (24, 0), "32 bits": (32, 0)}


def bmp(profile: bytes, bits: int, compression: int, *, colours: bytes = b"DEBM") -> bytes:
    """Make a BMP of 2 x 2 px with the newest header."""
    rows = bytes(2 * -(-2 * bits // 32) * 4)
    table = bytes(1024 if bits == 8 else 0)
    fields = struct.pack("<IiiHHIIiiII", 124, 2, 2, 1, bits, compression, 0, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0x7C00, 0x3E0, 0x1F, 0)
    place = 124 + len(table) + len(rows)
    header = fields + masks + colours + bytes(36 + 12 + 4) + struct.pack("<III", place, len(profile), 0)
    begins = 14 + 124 + len(table)
    return b"BM" + struct.pack("<III", begins + len(rows) + len(profile), 0, begins) + header + table + rows + profile


def gif_with(profile: bytes) -> bytes:
    """Make a GIF with a profile in parts."""
    parts = [profile[place : place + 255] for place in range(0, len(profile), 255)]
    return gif(1, [Part([1])]).replace(PALETTE, PALETTE + extension(b"ICCRGBG1012", *parts))


@pytest.mark.parametrize("kind", KINDS)
def test_the_profile_of_a_bmp_is_read(kind: str) -> None:
    assert read(bmp(PROFILE, *KINDS[kind]), LIMITS).image.info["icc_profile"] == PROFILE
    for without in (bmp(b"", *KINDS[kind]), bmp(PROFILE, *KINDS[kind], colours=b"BGRs")):
        assert read(without, LIMITS).image.info.get("icc_profile") is None


def test_the_profile_of_a_gif_is_read() -> None:
    assert read(gif_with(PROFILE), LIMITS).image.info["icc_profile"] == PROFILE
    assert read(gif(1, [Part([1])]), LIMITS).image.info.get("icc_profile") is None


@pytest.mark.parametrize("make", [gif_with, lambda profile: bmp(profile, 24, 0), lambda profile: bmp(profile, 8, 0)])
def test_a_profile_that_is_too_large_is_refused_by_the_header(make: Callable[[bytes], bytes]) -> None:
    with pytest.raises(OverLimit, match=r"the profile of the (GIF|BMP) has 901 bytes; the limit is 900"):
        read_header(make(bytes(901)), LIMITS)
