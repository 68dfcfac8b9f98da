"""The resolution of an answer is one that the upload names, never a guess."""

import struct

import numpy
import pytest

from app.pictures.decode import decode, read_header
from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS, opened
from tests.app.pictures.metadata_files import ASCII, BYTE, RATIONAL, SHORT, Entry, jpeg, number, text, tiff_structure
from tests.app.pictures.test_kinds import answered
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


ODD = {
    "text across": (Entry(282, ASCII, b"1"), number(296, 2)),
    "bytes across": (Entry(282, BYTE, b"1"), number(296, 2)),
    "two fractions": (Entry(282, RATIONAL, bytes(16)), number(296, 2)),
    "a whole number down": (number(283, 72), number(296, 2)),
    "a unit of text": (Entry(282, RATIONAL, struct.pack("<II", 72, 1)), Entry(296, ASCII, b"2")),
    "two units": (Entry(282, RATIONAL, struct.pack("<II", 72, 1)), Entry(296, SHORT, bytes(4))),
}
"""Fields of a resolution that readers do not expect."""


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("rest", [b"", b"Exif\0\0in another segment"], ids=["whole", "in parts"])
def test_a_resolution_of_a_wrong_type_costs_nothing_but_itself(odd: str, rest: bytes) -> None:
    file = jpeg(*([rest] if rest else []), exif=tiff_structure([text(271, b"Maker"), number(274, 6), *ODD[odd]]))
    assert read_header(file, LIMITS).width == 7
    picture = decode(file, LIMITS)
    assert (picture.width, picture.height) == (7, 10)
    for form in FORMATS.keys() & {"jpeg", "png", "webp", "avif"}:
        answer = opened(answered(picture, form))
        assert answer.getexif()[271] == "Maker"
        assert answer.getexif().keys().isdisjoint({282, 283, 296})
