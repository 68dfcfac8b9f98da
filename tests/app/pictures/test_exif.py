"""EXIF: kept tags are repeated byte for byte, others are dropped, and any bytes are handled."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from app.pictures.exif import Exif, Field, read_exif, tiff_value
from tests.app.pictures.metadata_files import (
    ASCII,
    BYTE,
    EXIF_IFD,
    GPS_IFD,
    INTEROP_IFD,
    LONG,
    RATIONAL,
    SHORT,
    SIZES,
    UNDEFINED,
    Entry,
    adobe_exif,
    number,
    text,
    tiff_structure,
)

ORDERS = pytest.mark.parametrize("order", ["<", ">"])
MAKE, ARTIST, USER_COMMENT, COLOUR_SPACE = 0x10F, 0x13B, 0x9286, 0xA001


def written(entries: list[Entry], order: str = "<", *, location: bool = False) -> bytes | None:
    read = read_exif(tiff_structure(entries, order))
    assert read
    return (read if location else read.without_location()).to_bytes()


def tags(data: bytes | None, ifd: int | None = None) -> set[int]:
    """Return the tags that Pillow finds."""
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + (data or b""))
    return set(exif.get_ifd(ifd) if ifd else exif)


@ORDERS
def test_values_of_every_type_come_back_byte_for_byte(order: str) -> None:
    for kind, size in SIZES.items():
        for count in (1, 3, 5):
            content = bytes(range(1, size * count + 1))
            again = read_exif(written([Entry(MAKE, kind, content), text(ARTIST, b"after it")], order) or b"")
            assert again
            assert again.order == order
            assert again.image[MAKE] == Field(kind=kind, count=count, value=content)
            assert again.image[ARTIST].value == b"after it\0"


@ORDERS
def test_an_independent_reader_reads_what_was_written(order: str) -> None:
    third = struct.pack(order + "II", 1, 3)
    camera = [Entry(0x829A, RATIONAL, third), Entry(USER_COMMENT, UNDEFINED, b"UNICODE\0" + "größer".encode("utf-16"))]
    data = written([text(ARTIST, "Jörg Ö".encode()), Entry(EXIF_IFD, LONG, camera)], order)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + (data or b""))
    assert exif[ARTIST].encode("latin-1") == "Jörg Ö".encode()
    inner = exif.get_ifd(EXIF_IFD)
    assert inner[0x829A] == TiffImagePlugin.IFDRational(1, 3)
    assert inner[USER_COMMENT] == b"UNICODE\0" + "größer".encode("utf-16")


def test_tags_are_written_in_ascending_order_with_values_at_even_offsets() -> None:
    data = written([text(ARTIST, b"odd!"), text(MAKE, b"second"), number(0x4746, 5)]) or b""
    entries = list(struct.iter_unpack("<HHII", data[10 : 10 + 3 * 12]))
    assert [tag for tag, *_ in entries] == sorted((ARTIST, MAKE, 0x4746))
    assert not any(offset % 2 for _, _, count, offset in entries if count > 4)


@ORDERS
def test_tags_of_the_old_file_only_are_dropped(order: str) -> None:
    untrue = [0x100, 0x101, 0x102, 0x103, 0x106, 0x111, 0x112, 0x115, 0x117, 0x142, 0x144, 0x14A, 0x201, 0x202, 0x213]
    private = [0x2BC, 0x83BB, 0x8649, 0x8773, 0xC4A5, 0xC612, 0xEA1C]
    in_camera = [0x9101, 0x9102, 0x927C, GPS_IFD, 0x9214, 0xA002, 0xA003, 0xA004, 0xA20E, 0xA20F, 0xA214, 0xEA1D]
    camera = [number(tag, 7, order) for tag in (0x8827, *in_camera)]
    image = [number(tag, 7, order) for tag in (*untrue, *private)]
    data = written([text(MAKE, b"Maker"), *image, Entry(EXIF_IFD, LONG, camera)], order, location=True)
    assert tags(data) == {MAKE, EXIF_IFD}
    assert tags(data, EXIF_IFD) == {0x8827}


@ORDERS
def test_the_interoperability_ifd_is_written_where_its_pointer_says(order: str) -> None:
    again = read_exif((read_exif(adobe_exif(order=order)) or Exif(order="<")).to_bytes() or b"")
    assert again
    assert again.interop[1].value == b"R03\0"
    assert again.interop[2] == Field(kind=UNDEFINED, count=4, value=b"0100")
    assert again.is_adobe_rgb


def test_a_pointer_that_leads_nowhere_is_dropped() -> None:
    camera = [number(0x8827, 100), number(INTEROP_IFD, 130, kind=LONG)]
    data = written([Entry(EXIF_IFD, LONG, camera), number(GPS_IFD, 2**31, kind=LONG)], location=True)
    assert tags(data) == {EXIF_IFD}
    assert tags(data, EXIF_IFD) == {0x8827}


@pytest.mark.parametrize("location", [True, False])
def test_the_location_is_kept_only_on_request(location: bool) -> None:
    gps = [text(1, b"N"), Entry(2, RATIONAL, struct.pack("<6I", 59, 1, 20, 1, 0, 1))]
    data = written([text(MAKE, b"Maker"), Entry(GPS_IFD, LONG, gps)], location=location)
    assert tags(data) == ({MAKE, GPS_IFD} if location else {MAKE})
    assert tags(data, GPS_IFD) == ({1, 2} if location else set())


@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [
        (65535, b"R03", True),
        (65535, b"R98", False),
        (65535, None, False),
        (2, None, True),
        (2, b"R98", True),
        (1, b"R03", False),
    ],
)
def test_adobe_rgb_is_recognised_by_the_rule_of_dcf(space: int, index: bytes | None, adobe: bool) -> None:
    exif = read_exif(adobe_exif(space, index))
    assert exif
    assert exif.is_adobe_rgb == adobe
    converted = exif.without_colour()
    assert not converted.is_adobe_rgb
    assert COLOUR_SPACE not in converted.camera
    assert MAKE in converted.image


def test_a_bigtiff_is_read_as_well() -> None:
    name = b"a name of 16 b.\0"
    camera = struct.pack("<QHHQ8s", 1, 0x8827, SHORT, 1, b"d") + bytes(8)
    file = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 3)
    file += struct.pack("<HHQ8s", MAKE, ASCII, 8, b"in here\0")
    file += struct.pack("<HHQQ", ARTIST, ASCII, 16, 92)
    file += struct.pack("<HHQQ", EXIF_IFD, 18, 1, 108)
    exif = read_exif(file.ljust(92, b"\0") + name + camera)
    assert exif
    assert exif.image[MAKE].value == b"in here\0"
    assert exif.image[ARTIST].value == name
    assert exif.camera[0x8827] == Field(kind=SHORT, count=1, value=b"d\0")


def test_a_field_with_a_value_outside_the_file_loses_only_itself() -> None:
    data = bytearray(tiff_structure([text(MAKE, b"Maker"), text(ARTIST, b"an artist")]))
    struct.pack_into("<I", data, data.index(struct.pack("<H", ARTIST)) + 8, len(data) - 3)
    exif = read_exif(bytes(data))
    assert exif
    assert set(exif.image) == {MAKE}


def test_overlapping_values_do_not_multiply_the_data() -> None:
    wanted = [0x10D, 0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x8298]
    table = b"".join(struct.pack("<HHII", tag, BYTE, 50_000, 8) for tag in wanted)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(wanted)) + table + bytes(60_000)
    exif = read_exif(data)
    assert exif
    assert sum(len(found.value) for found in exif.image.values()) <= len(data)


def test_ifds_that_point_to_each_other_end() -> None:
    table = struct.pack("<HHIIHHII", EXIF_IFD, LONG, 1, 8, MAKE, ASCII, 4, int.from_bytes(b"abc\0", "little"))
    exif = read_exif(b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + table + bytes(4))
    assert exif
    assert set(exif.image) == {MAKE}
    assert not exif.camera


def test_the_value_of_a_tiff_field_is_found() -> None:
    file = io.BytesIO()
    Image.new("L", (3, 3)).save(file, "TIFF", tiffinfo={700: b"<packet/>"})
    (first,) = struct.unpack_from("<I", file.getvalue(), 4)
    assert tiff_value(file.getvalue(), 700, first) == b"<packet/>"
    assert tiff_value(file.getvalue(), 701, first) is None
    assert tiff_value(b"II*\0", 700, 8) is None


SOUND = tiff_structure(
    [
        text(MAKE, b"Maker"),
        Entry(EXIF_IFD, LONG, [number(COLOUR_SPACE, 2), Entry(INTEROP_IFD, LONG, [text(1, b"R03")])]),
        Entry(GPS_IFD, LONG, [text(1, b"N")]),
        number(0x112, 6),
    ]
)


def check_any(data: bytes) -> None:
    exif = read_exif(data)
    again = exif.to_bytes() if exif else None
    if again:
        assert len(again) <= 2 * len(data) + 100
        repeated = read_exif(again)
        assert repeated is not None
        assert repeated == exif
        assert repeated.to_bytes() == again


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"Exif\0\0II*\0", b"")), st.binary(max_size=200))
def test_arbitrary_bytes_are_handled(start: bytes, data: bytes) -> None:
    check_any(start + data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_arbitrary_damage_is_handled(damage: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, value in damage:
        data[at] = value
    check_any(bytes(data))
