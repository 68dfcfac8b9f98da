"""What an answer says beside its pixels."""

from dataclasses import replace

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from app.pictures.decode import decode, prepare_decoders
from app.pictures.encode import FORMATS
from app.pictures.metadata import MetadataRule
from tests.app.conftest import encoded, noise
from tests.app.picture_files import LIMITS, SRGB_PROFILE, opened
from tests.app.test_picture_kinds import answered

pytestmark = pytest.mark.filterwarnings("ignore")
prepare_decoders()

ORIENTATION, MAKE, EXIF_IFD, GPS_IFD, WIDTH_SAID, EXPOSURE = 0x0112, 0x010F, 0x8769, 0x8825, 0xA002, 0x829A
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:exif="e" xmlns:tiff="t" xmlns:dc="d" tiff:Orientation="6" exif:GPSLatitude="59,20N">'
    b"<exif:GPSLongitude>18,3E</exif:GPSLongitude><dc:title>Quay</dc:title>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif() -> Image.Exif:
    made = Image.Exif()
    made[ORIENTATION], made[MAKE] = 6, "Maker"
    made.get_ifd(EXIF_IFD).update({EXPOSURE: 0.01, WIDTH_SAID: 10})
    made.get_ifd(GPS_IFD).update({1: "N", 2: (59.0, 20.0, 0.0)})
    return made


def photograph(file_format: str) -> bytes:
    said: dict[str, object] = {"exif": exif(), "dpi": (300, 300), "icc_profile": SRGB_PROFILE}
    if file_format == "PNG":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encoded(noise(10, 7), "PNG", pnginfo=texts, **said)
    return encoded(noise(10, 7), file_format, xmp=XMP, quality=95, **said)


def answer_of(rule: MetadataRule, file_format: str = "JPEG", form: str = "png") -> Image.Image:
    return opened(answered(decode(photograph(file_format), LIMITS, rule), form))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_metadata_is_kept_without_the_place(file_format: str, form: str) -> None:
    answer = answer_of("keep", file_format, form)
    said = answer.getexif()
    assert said[MAKE] == "Maker"
    assert said.get(ORIENTATION, 1) == 1
    assert WIDTH_SAID not in said.get_ifd(EXIF_IFD)
    assert not said.get_ifd(GPS_IFD)
    assert answer.info["icc_profile"] == SRGB_PROFILE
    if file_format != "TIFF":  # of which Pillow writes neither part
        assert float(said.get_ifd(EXIF_IFD)[EXPOSURE]) == pytest.approx(0.01)
        xmp = answer.info["xmp"]
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert b"Quay" in xmp
        assert b'tiff:Orientation="1"' in xmp
        assert b"GPS" not in xmp


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_the_resolution_is_kept(file_format: str, form: str) -> None:
    assert answer_of("keep", file_format, form).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_the_place_is_kept_on_request() -> None:
    answer = answer_of("keep-gps")
    assert answer.getexif().get_ifd(GPS_IFD)[1] == "N"
    assert "GPSLatitude" in str(answer.info["xmp"])


@pytest.mark.parametrize("form", FORMATS)
def test_all_but_the_profile_is_stripped_on_request(form: str) -> None:
    answer = answer_of("strip", form=form)
    assert answer.info["icc_profile"] == SRGB_PROFILE
    assert not answer.getexif()
    assert "xmp" not in answer.info


def test_a_place_in_a_form_that_is_not_known_takes_all_of_the_xmp_along() -> None:
    file = encoded(noise(5, 5), "JPEG", xmp=b"<a:GPSOddity/>")
    assert decode(file, LIMITS).metadata.xmp is None


def test_the_grey_profile_of_a_grey_picture_is_kept() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = decode(encoded(noise(5, 5, mode="L"), icc_profile=profile), LIMITS)
    assert opened(answered(picture, "png")).info["icc_profile"] == profile


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 40, b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0"]
)
def test_a_picture_with_nonsense_for_exif_is_a_sound_picture(damage: bytes) -> None:
    file = encoded(noise(10, 7), "JPEG", exif=b"Exif\0\0" + damage)
    picture = decode(file, LIMITS)
    assert (picture.width, picture.height) == (10, 7)


def test_metadata_too_large_for_a_jpeg_is_left_out_of_it() -> None:
    big = Image.Exif()
    big[MAKE] = "m" * 66_000
    picture = decode(encoded(noise(5, 5), exif=big), replace(LIMITS, max_metadata_bytes=100_000))
    assert MAKE not in opened(answered(picture, "jpeg")).getexif()
    assert opened(answered(picture, "png")).getexif()[MAKE] == "m" * 66_000
