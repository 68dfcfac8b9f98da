"""Metadata of answers, through every kind of upload and every format."""

import functools
import io
import itertools
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from app.pictures.decode import decode, prepare_decoders
from app.pictures.encode import FORMATS
from app.pictures.icc import adobe_rgb, profile_for, space_of
from app.pictures.png_chunks import MetadataRule
from app.pictures.xmp import EXTENSION_NAME
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS, SRGB_PROFILE, chunk, levels, opened, png, tiff
from tests.app.pictures.metadata_files import (
    EXIF_IFD,
    GPS_IFD,
    LONG,
    RATIONAL,
    UNDEFINED,
    Entry,
    adobe_exif,
    jpeg,
    number,
    text,
    tiff_structure,
    xmp,
)
from tests.app.pictures.test_kinds import answered
from tests.tiff_file import Tiff, Value

pytestmark = pytest.mark.filterwarnings("ignore")
prepare_decoders()

ORIENTATION, MAKE, ARTIST, COPYRIGHT, EXPOSURE, COMMENT = 0x0112, 0x010F, 0x013B, 0x8298, 0x829A, 0x9286
NAMES = sorted(FORMATS.keys() - {"jxl"})  # which has its own tests, as an extra
FORMATS_OF_ANSWERS = pytest.mark.parametrize("form", NAMES)
GREY_PROFILE = profile_for(b"GRAY", SRGB_PROFILE) or b""

EXIF = tiff_structure(
    [
        number(0x100, 10),
        number(0x101, 7),
        text(MAKE, b"Maker"),
        number(ORIENTATION, 6),
        text(ARTIST, "Jörg Ö".encode()),
        text(COPYRIGHT, "© 2024".encode("latin-1")),
        Entry(
            EXIF_IFD,
            LONG,
            [
                Entry(EXPOSURE, RATIONAL, struct.pack("<II", 1, 100)),
                Entry(0x927C, UNDEFINED, b"notes of the maker"),
                Entry(COMMENT, UNDEFINED, b"UNICODE\0" + "größer".encode("utf-16-le")),
                number(0xA002, 10),
            ],
        ),
        Entry(GPS_IFD, LONG, [text(1, b"N"), Entry(2, RATIONAL, struct.pack("<6I", 59, 1, 20, 1, 0, 1))]),
    ]
)
XMP = xmp("<exif:GPSLongitude>18,3E</exif:GPSLongitude>", 'tiff:Orientation="6" exif:GPSLatitude="59,20N"').encode()


def tiff_photograph() -> bytes:
    """Make a TIFF with non-ASCII text, which Pillow does not write."""
    said = {270: "Zuerich", MAKE: "Maker", 700: XMP, ORIENTATION: 6}
    file = encoded(noise(10, 7), "TIFF", tiffinfo=said, dpi=(300, 300), icc_profile=SRGB_PROFILE)
    return file.replace(b"Zuerich", "Zürich".encode()[:7])


def photograph(file_format: str) -> bytes:
    said: dict[str, object] = {"dpi": (300, 300), "icc_profile": SRGB_PROFILE}
    if file_format == "TIFF":
        return tiff_photograph()
    if file_format == "AVIF":  # Pillow's writer corrupts text
        plain = EXIF.replace("Jörg Ö".encode(), b"JXXrg XX").replace("© 2024".encode("latin-1"), b"X 2024")
        file = encoded(noise(10, 7), "AVIF", exif=plain, xmp=XMP, quality=95, **said)
        return file.replace(b"JXXrg XX", "Jörg Ö".encode()).replace(b"X 2024", "© 2024".encode("latin-1"))
    if file_format == "PNG":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encoded(noise(10, 7), "PNG", pnginfo=texts, exif=EXIF, **said)
    return encoded(noise(10, 7), file_format, exif=b"Exif\0\0" + EXIF, xmp=XMP, quality=95, **said)


def answer_of(rule: MetadataRule, file_format: str = "JPEG", form: str = "png") -> Image.Image:
    return opened(answered(decode(photograph(file_format), LIMITS, rule), form))


def xmp_of(image: Image.Image) -> bytes:
    said = image.info.get("xmp") or b""
    return said.encode() if isinstance(said, str) else said


def profile_of(file: bytes, form: str, rule: MetadataRule = "keep") -> bytes | None:
    profile = opened(answered(decode(file, LIMITS, rule), form)).info.get("icc_profile")
    assert profile is None or isinstance(profile, bytes)
    return profile


@FORMATS_OF_ANSWERS
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_metadata_is_kept_without_the_location(file_format: str, form: str) -> None:
    answer = answer_of("keep", file_format, form)
    said = answer.getexif()
    assert said[MAKE] == "Maker"
    assert said.get(ORIENTATION, 1) == 1
    assert not {0x100, 0x101, GPS_IFD} & set(said)
    assert answer.info["icc_profile"] == SRGB_PROFILE
    assert b"Quay" in xmp_of(answer)
    assert b"GPS" not in xmp_of(answer)
    assert b"Orientation" not in xmp_of(answer)
    if file_format == "TIFF":
        assert said[270].encode("latin-1") == "Zürich".encode()
    else:
        camera = said.get_ifd(EXIF_IFD)
        assert set(camera) == {EXPOSURE, COMMENT}
        assert camera[COMMENT] == b"UNICODE\0" + "größer".encode("utf-16-le")
        assert said[ARTIST].encode("latin-1") == "Jörg Ö".encode()
        assert said[COPYRIGHT].encode("latin-1") == "© 2024".encode("latin-1")


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_the_resolution_is_kept(file_format: str, form: str) -> None:
    assert answer_of("keep", file_format, form).info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize(("orientation", "expected"), [(3, (200, 100)), (6, (100, 200))])
def test_the_resolution_is_turned_with_the_picture(orientation: int, expected: tuple[float, float]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x11A], exif[0x11B], exif[0x128] = orientation, 200.0, 100.0, 2
    packet = xmp("", 'tiff:XResolution="200/1" tiff:YResolution="100/1"').encode()
    metadata = decode(encoded(noise(30, 20), "JPEG", exif=exif, dpi=(200, 100), xmp=packet), LIMITS).metadata
    assert metadata.dpi == expected
    said = Image.Exif()
    said.load(metadata.exif or b"")
    assert (said[0x11A], said[0x11B]) == expected
    assert f'tiff:XResolution="{expected[0]}/1"'.encode() in (metadata.xmp or b"")


@FORMATS_OF_ANSWERS
def test_the_location_is_kept_on_request(form: str) -> None:
    answer = answer_of("keep-gps", form=form)
    assert answer.getexif().get_ifd(GPS_IFD)[1] == "N"
    assert b"GPSLatitude" in xmp_of(answer)


@FORMATS_OF_ANSWERS
def test_all_but_the_profile_is_stripped_on_request(form: str) -> None:
    answer = answer_of("strip", form=form)
    assert answer.info["icc_profile"] == SRGB_PROFILE
    assert not answer.getexif()
    assert not xmp_of(answer)


def test_exif_written_as_text_by_imagemagick_is_kept() -> None:
    digits = (b"Exif\0\0" + EXIF).hex()
    said = chunk(b"tEXt", f"Raw profile type exif\0\nexif\n{len(digits) // 2:8}\n{digits}\n".encode())
    assert decode(png(levels(3), said), LIMITS).metadata.exif == decode(jpeg(exif=EXIF), LIMITS).metadata.exif


@FORMATS_OF_ANSWERS
def test_the_extended_packet_of_a_jpeg_is_kept_without_the_location(form: str) -> None:
    more = xmp("<dc:source>roll 7</dc:source>", 'photoshop:City="Stockholm"', title="").encode()
    name = b"0123456789ABCDEF" * 2
    main = xmp(attributes=f'xmpNote:HasExtendedXMP="{name.decode()}"').encode()
    parts = [EXTENSION_NAME + name + struct.pack(">II", len(more), at) + more[at : at + 999] for at in (999, 0)]
    said = xmp_of(opened(answered(decode(jpeg(*parts, xmp=main), LIMITS), form)))
    assert b"Quay" in said
    assert b"roll 7" in said
    assert b"Stockholm" not in said


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_the_packet_of_a_png_is_read_from_any_kind_of_text(kind: bytes) -> None:
    said = xmp("<dc:creator>Jörg Ö</dc:creator>").encode()
    contents = {b"tEXt": b"\0" + said, b"zTXt": b"\0\0" + zlib.compress(said), b"iTXt": b"\0\0\0\0\0" + said}
    packet = decode(png(levels(3), chunk(kind, b"XML:com.adobe.xmp" + contents[kind])), LIMITS).metadata.xmp
    assert packet is not None
    assert "Jörg Ö".encode() in packet


def test_metadata_of_a_tiff_that_pillow_cannot_open_is_kept() -> None:
    file = bytearray(tiff(levels(2, bits=16)))
    (at,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, at)
    struct.pack_into("<I", file, 4, len(file))
    table = file[at + 2 : at + 2 + 12 * count]
    location = struct.pack("<HHII", COPYRIGHT, 2, 7, len(file) + 2 + 12 * (count + 1) + 4)
    file += struct.pack("<H", count + 1) + table + location + bytes(4) + "© 24".encode() + b"\0\0\0"
    exif = decode(bytes(file), LIMITS).metadata.exif
    assert exif is not None
    assert "© 24".encode() in exif


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 40, b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0"]
)
def test_a_picture_with_invalid_exif_is_decoded(damage: bytes) -> None:
    file = encoded(noise(10, 7), "JPEG", exif=b"Exif\0\0" + damage)
    picture = decode(file, LIMITS)
    assert (picture.width, picture.height) == (10, 7)


def test_metadata_too_large_for_a_jpeg_is_left_out_of_it() -> None:
    big = encoded(noise(5, 5), exif=tiff_structure([text(MAKE, b"m" * 66_000)]))
    picture = decode(big, replace(LIMITS, max_metadata_bytes=100_000))
    assert MAKE not in opened(answered(picture, "jpeg")).getexif()
    assert opened(answered(picture, "png")).getexif()[MAKE] == "m" * 66_000


def test_the_profile_of_grey_is_kept_where_the_answer_is_grey() -> None:
    file = jpeg(mode="L", icc_profile=GREY_PROFILE)
    assert profile_of(file, "png") == profile_of(file, "jpeg") == GREY_PROFILE
    assert space_of(profile_of(file, "webp") or b"") == b"RGB "  # WebP has three channels


@pytest.mark.parametrize("rule", ["keep", "strip"])
def test_a_grey_picture_with_a_profile_of_rgb_gets_the_same_tones_for_grey(rule: MetadataRule) -> None:
    file = jpeg(mode="L", icc_profile=SRGB_PROFILE)
    assert profile_of(file, "png", rule) == profile_of(file, "jpeg", rule) == GREY_PROFILE
    assert profile_of(file, "webp", rule) == SRGB_PROFILE


@FORMATS_OF_ANSWERS
def test_colour_never_gets_a_profile_of_grey(form: str) -> None:
    assert profile_of(jpeg(icc_profile=GREY_PROFILE), form) is None
    palette = encoded(noise(10, 7).quantize(16), icc_profile=GREY_PROFILE)
    assert profile_of(palette, form) is None


@FORMATS_OF_ANSWERS
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_invalid_profile_is_dropped(mode: str, form: str) -> None:
    assert profile_of(jpeg(mode=mode, icc_profile=b"not a profile"), form) is None


@FORMATS_OF_ANSWERS
@pytest.mark.parametrize("rule", ["keep", "keep-gps", "strip"])
@pytest.mark.parametrize("exif", [adobe_exif(), adobe_exif(2, None, ">")])
def test_adobe_rgb_that_exif_alone_names_becomes_a_profile(exif: bytes, rule: MetadataRule, form: str) -> None:
    assert profile_of(jpeg(exif=exif), form, rule) == adobe_rgb()
    assert profile_of(png(levels(3), chunk(b"eXIf", exif)), form, rule) == adobe_rgb()


def test_the_tones_of_adobe_rgb_are_kept_of_a_grey_picture() -> None:
    assert profile_of(jpeg(mode="L", exif=adobe_exif()), "png") == profile_for(b"GRAY", adobe_rgb())


def test_colour_information_in_the_file_overrides_exif() -> None:
    assert profile_of(jpeg(exif=adobe_exif(), icc_profile=SRGB_PROFILE), "png") == SRGB_PROFILE
    named = chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 45_455)), chunk(b"cICP", bytes((9, 16, 0, 1)))
    for said in named:
        assert profile_of(png(levels(3), said, chunk(b"eXIf", adobe_exif())), "png") is None
    assert profile_of(jpeg(exif=adobe_exif(1)), "png") is None


def test_exif_does_not_name_the_colours_of_a_picture_that_was_converted() -> None:
    picture = decode(jpeg(mode="RGB", exif=adobe_exif()), LIMITS)
    cmyk = io.BytesIO()
    noise(10, 7).convert("CMYK").save(cmyk, "JPEG", exif=b"Exif\0\0" + adobe_exif())
    converted = decode(cmyk.getvalue(), LIMITS)
    assert converted.metadata.icc_profile is None
    assert picture.metadata.exif is not None
    assert converted.metadata.exif is not None
    assert b"R03" in picture.metadata.exif
    assert b"R03" not in converted.metadata.exif
    assert b"Maker" in converted.metadata.exif


def test_an_avif_names_its_colours_itself() -> None:
    metadata = decode(encoded(noise(10, 7), "AVIF", exif=adobe_exif()), LIMITS).metadata
    assert metadata.icc_profile is None
    assert metadata.exif is not None


@pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool (Debian: libimage-exiftool-perl)")
def test_exiftool_accepts_answers_and_can_edit_them(tmp_path: Path) -> None:
    uploads = [photograph("JPEG"), photograph("TIFF"), jpeg(exif=adobe_exif(), xmp=XMP)]
    uploads.append(jpeg(mode="L", exif=EXIF, icc_profile=SRGB_PROFILE))
    rules: list[MetadataRule] = ["keep-gps", "strip"]
    for location, (upload, rule, form) in enumerate(itertools.product(uploads, rules, NAMES)):
        (tmp_path / f"{location}.{form}").write_bytes(answered(decode(upload, LIMITS, rule), form))
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    checked = run(["exiftool", "-validate", "-warning", "-error", "-a", "-s2", str(tmp_path)])
    complaints = [line for line in checked.stdout.splitlines() if line.startswith(("Warning", "Error"))]
    assert [line for line in complaints if "Missing required" not in line] == []  # as in the uploads
    wrote = run(["exiftool", "-q", "-overwrite_original", "-Artist=x", str(tmp_path)])
    assert (wrote.returncode, wrote.stderr) == (0, "")


ANY = st.binary(max_size=300)


@settings(max_examples=60, deadline=None)
@given(exif=ANY, packet=ANY, profile=ANY, form=st.sampled_from(NAMES), mode=st.sampled_from(("L", "RGB")))
def test_arbitrary_metadata_leaves_a_valid_answer(
    exif: bytes, packet: bytes, profile: bytes, form: str, mode: str
) -> None:
    file = jpeg(exif=b"II*\0" + exif, xmp=packet, icc_profile=profile or None, mode=mode)
    answer = opened(answered(decode(file, LIMITS), form))
    assert answer.size == (20, 14)
    answer.getexif()
    assert "icc_profile" not in answer.info


def test_the_colours_of_adobe_rgb_do_not_shift() -> None:
    file = encoded(noise(10, 7), "WEBP", exif=adobe_exif(), lossless=True)
    answer = opened(answered(decode(file, LIMITS, "strip"), "png"))
    assert (numpy.asarray(answer)[::2, ::2] == numpy.asarray(opened(file))).all()
    profile = ImageCms.ImageCmsProfile(io.BytesIO(answer.info["icc_profile"]))
    assert "Adobe RGB" in ImageCms.getProfileDescription(profile)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_of_a_tiff_that_starts_with_a_thumbnail_is_that_of_the_picture(order: str, *, big: bool) -> None:
    stored = numpy.zeros((9, 8, 3), numpy.uint16)
    layout: dict[int, Value] = {
        256: [8],
        257: [9],
        258: [8, 8, 8],
        259: [1],
        262: [2],
        273: [16],
        277: [3],
        278: [9],
        279: [216],
    }
    thumbnail: dict[int, Value] = {
        254: [1],
        257: [4],
        270: (2, b"a thumbnail\0"),
        700: (1, xmp("", 'dc:source="a thumbnail"').encode()),
    }
    picture = layout | {270: (2, b"a picture\0"), 700: (1, xmp("", 'dc:source="a picture"').encode())}
    file = Tiff(order=order, big=big, rows_per_strip=9, fields=thumbnail, after=[picture]).file(stored)
    said = decode(file, LIMITS).metadata
    for metadata in (said.exif, said.xmp):
        assert metadata is not None
        assert b"a picture" in metadata
        assert b"thumbnail" not in metadata
