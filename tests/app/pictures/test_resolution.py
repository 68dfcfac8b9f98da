"""The resolution of an answer is one that the upload names, never a guess."""

import struct

import numpy
import pytest

from app.pictures.decode import decode
from app.pictures.encode import FORMATS, layout_of
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS
from tests.app.pictures.metadata_files import RATIONAL, Entry, jpeg, number, text, tiff_structure
from tests.tiff_file import Tiff, Value


def resolution(*, unit: int | None = 2, order: str = "<", across: bytes | None = None) -> bytes:
    """Make EXIF of 100 x 50 px in a unit."""
    entries = [Entry(tag, RATIONAL, struct.pack(order + "II", value, 1)) for tag, value in ((282, 100), (283, 50))]
    if across is not None:
        entries[0] = Entry(282, RATIONAL, across)
    return tiff_structure(entries + ([] if unit is None else [number(296, unit, order)]), order)


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        (resolution(), (100, 50)),
        (resolution(order=">"), (100, 50)),
        (resolution(unit=None), (100, 50)),
        (resolution(unit=3), (254, 127)),
        (resolution(unit=1), None),
        (resolution(across=struct.pack("<II", 1, 0)), None),
        (resolution(across=b""), None),
        (tiff_structure([text(271, b"Maker")]), None),
    ],
)
def test_a_resolution_is_that_of_exif_where_the_file_names_none(
    exif: bytes, expected: tuple[float, float] | None
) -> None:
    for form in ("WEBP", "AVIF", "PNG"):
        assert decode(encoded(noise(10, 7), form, exif=exif), LIMITS).metadata.dpi == expected
    file = jpeg(exif=exif)
    for without in (file, file.replace(b"JFIF", b"JXIF")):
        picture = decode(without, LIMITS)
        assert picture.metadata.dpi == expected
        assert layout_of(picture, FORMATS["webp"], height=7, width=10).left_out == ()
    assert decode(encoded(noise(10, 7), "JPEG", exif=exif, dpi=(300, 200)), LIMITS).metadata.dpi == (300, 200)


@pytest.mark.parametrize(("unit", "expected"), [(1, None), (2, (300, 150)), (3, (762, 381)), (None, (300, 150))])
def test_the_resolution_of_a_tiff_is_that_of_its_fields(unit: int | None, expected: tuple[int, int] | None) -> None:
    fields: dict[int, Value] = {282: (5, struct.pack("<II", 300, 1)), 283: (5, struct.pack("<II", 150, 1))}
    stored = numpy.zeros((9, 8, 3), numpy.uint16)
    file = Tiff(fields=fields | ({} if unit is None else {296: [unit]})).file(stored)
    assert decode(file, LIMITS).metadata.dpi == expected
    assert decode(Tiff(fields={296: [2]}).file(stored), LIMITS).metadata.dpi is None
    assert decode(Tiff(fields={282: fields[282]}).file(stored), LIMITS).metadata.dpi is None
