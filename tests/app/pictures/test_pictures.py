"""Uploads to Picture and back: every kind of upload keeps its nature."""

import contextlib
import struct
import tracemalloc
from dataclasses import replace

import numpy
import pytest
from PIL import Image

from app.errors import ServiceError, TooLarge, Unavailable, Unprocessable, UnsupportedFormat
from app.pictures.decode import decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from app.pictures.picture import Metadata, Picture, Pixels, is_neutral, planes_of
from app.pictures.postprocess import Postprocessor
from app.sizing import decoding_bytes
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS, SRGB_PROFILE, chunk

# As at the start of the service: Pillow's warnings about odd files are expected here.
pytestmark = pytest.mark.filterwarnings("ignore")
prepare_decoders()


def decode_image(image: Image.Image, file_format: str = "PNG", **options: object) -> Picture:
    return decode(encoded(image, file_format, **options), LIMITS)


def finished(picture: Picture, upscaled: Pixels | None = None, form: str = "png") -> Pixels:
    """Return the pixels of an answer, for a network that changes nothing or has this output."""
    planes = picture.planes if upscaled is None else upscaled
    height, width = planes.shape[1:3]
    finish = Postprocessor(
        picture, height // picture.height, layout_of(picture, FORMATS[form], height=height, width=width)
    )
    return numpy.concatenate((finish.rows(planes[:, :1]), finish.rows(planes[:, 1:])))


def enlarged(planes: Pixels) -> Pixels:
    return planes.repeat(2, axis=1).repeat(2, axis=2)


def opaque_or_not(planes: Pixels) -> Picture:
    return Picture(planes=planes, grey=False, bits=8)


@pytest.mark.parametrize("step", ["open", "load"])
def test_a_lack_of_memory_is_not_blamed_on_the_file(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    upload = encoded(noise(5, 5))
    monkeypatch.setattr(Image if step == "open" else Image.Image, step, fail)
    with pytest.raises(Unavailable, match="no memory for this picture now"):
        decode(upload, LIMITS)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_supported_format_is_recognised_by_its_content(file_format: str) -> None:
    picture = decode_image(noise(7, 5), file_format)
    assert picture.planes.shape == (1, 5, 7, 3)


def test_colour_passes_through_unchanged() -> None:
    image = noise(7, 5)
    assert (finished(decode_image(image)) == numpy.array(image)).all()


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey(mode: str) -> None:
    image = noise(7, 5, mode="L").convert(mode)
    assert (finished(decode_image(image))[..., 0] == numpy.array(image.convert("L"))).all()


def test_grey_with_alpha_stays_grey_with_alpha() -> None:
    image = noise(7, 5, mode="LA")
    pixels = numpy.array(image)
    pixels[pixels[..., 1] == 0] = 0
    assert (finished(decode_image(image)) == pixels).all()


def test_a_palette_becomes_its_colours() -> None:
    image = noise(7, 5).quantize(16)
    assert (finished(decode_image(image)) == numpy.array(image.convert("RGB"))).all()


@pytest.mark.parametrize(
    ("pixel", "neutral"),
    [
        ((9, 10, 9, 255), True),
        ((9, 11, 9, 255), False),
        ((0, 255, 0, 0), True),
        ((0, 85, 0, 3), True),
        ((0, 85, 0, 12), False),
    ],
)
def test_grey_in_three_channels_is_found_as_it_is_shown(pixel: tuple[int, ...], neutral: bool) -> None:
    pixels = numpy.array(noise(5, 200, mode="L").convert("RGBA"))
    pixels[190, 2] = pixel
    picture = decode_image(Image.fromarray(pixels if pixel[3] < 255 else pixels[..., :3]))
    assert not picture.grey
    assert picture.neutral == neutral


@pytest.mark.parametrize(("largest", "spread", "neutral"), [(65_535, 257, True), (65_535, 258, False), (300, 2, False)])
def test_grey_of_16_bits_is_found_by_its_brightest_level(largest: int, spread: int, neutral: bool) -> None:
    colour = numpy.full((5, 5, 3), largest, numpy.uint16)
    colour[4, 4, 1] -= spread
    assert is_neutral(colour, None) == neutral


def test_a_coloured_picture_is_not_searched_to_its_end() -> None:
    endless = numpy.broadcast_to(numpy.array((9, 90, 9), numpy.uint8), (2**50, 3, 3))
    assert not is_neutral(endless, None)


def test_grey_in_three_channels_comes_back_as_grey_in_three_channels() -> None:
    image = noise(7, 5, mode="L")
    picture = decode_image(image.convert("RGB"))
    tinted = (enlarged(picture.planes) // 2 + numpy.array((0, 60, 20), numpy.uint8)).astype(numpy.uint8)
    answer = finished(picture, tinted)
    assert answer.shape[-1] == 3
    grey = finished(decode_image(image), tinted)
    assert (answer == grey).all()


def test_a_palette_with_a_transparent_colour_becomes_colour_with_alpha() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    result = finished(decode_image(image, transparency=0))
    assert result[0, 0].tolist() == [0, 0, 0, 0]
    assert result[1, 1].tolist() == [0, 255, 0, 255]


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = decode_image(red, "JPEG", quality=95).planes[0]
    assert numpy.abs(pixels.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("value", [200, 30_000, 65_535])
def test_16_bit_levels_are_exact_however_dark(value: int) -> None:
    picture = decode_image(Image.fromarray(numpy.full((4, 4), value, numpy.uint16)))
    assert picture.grey
    assert picture.bits == 16
    assert (picture.planes == value).all()


def test_an_opaque_alpha_channel_is_dropped() -> None:
    image = noise(7, 5)
    image.putalpha(255)
    assert len(decode_image(image).planes) == 1


@pytest.mark.parametrize("size", [(9, 9), (1, 7), (16, 5), (1, 1)])
def test_the_visible_part_of_a_transparent_picture_is_kept(size: tuple[int, int]) -> None:
    rng = numpy.random.default_rng(1)
    colour = rng.integers(0, 256, (*size, 3), dtype=numpy.uint8)
    alpha = rng.choice(numpy.array([0, 1, 100, 255], numpy.uint8), size)
    planes = planes_of(colour, alpha)
    again = finished(opaque_or_not(planes))
    assert (again[..., 3] == alpha).all()
    assert (again[alpha > 0, :3] == colour[alpha > 0]).all()
    assert (again[alpha == 0] == 0).all()


def test_hidden_pixels_take_the_colour_of_what_is_visible_around_them() -> None:
    colour = numpy.full((32, 32, 3), (255, 0, 0), numpy.uint8)  # hidden red
    alpha = numpy.zeros((32, 32), numpy.uint8)
    colour[:, 4:8], alpha[:, 4:8] = (255, 255, 255), 255
    colour[:, 28:30], alpha[:, 28:30] = (0, 0, 255), 255
    filled = planes_of(colour, alpha)[0]
    assert (filled[:, :12] == 255).all()
    assert (filled[:, 26:] == (0, 0, 255)).all()


def test_hidden_pixels_take_the_colour_of_what_is_most_visible() -> None:
    colour, alpha = numpy.zeros((1, 4, 3), numpy.uint8), numpy.array([[255, 1, 0, 0]], numpy.uint8)
    colour[0, :2] = (200, 0, 0), (0, 200, 0)
    assert numpy.abs(planes_of(colour, alpha)[0, 0, 2:].astype(int) - (200, 0, 0)).max() <= 1


def test_alpha_stays_within_the_range_of_the_pixels_around_it() -> None:
    low_res = planes_of(numpy.zeros((1, 6, 3), numpy.uint8), numpy.array([[0, 0, 0, 255, 255, 255]], numpy.uint8))
    upscaled = numpy.full((2, 2, 12, 3), 128, numpy.uint8)
    assert finished(opaque_or_not(low_res), upscaled)[..., 3].tolist() == [[0] * 4 + [128] * 4 + [255] * 4] * 2


def test_an_invisible_picture_is_black() -> None:
    planes = planes_of(numpy.full((5, 6, 3), 200, numpy.uint8), numpy.zeros((5, 6), numpy.uint8))
    assert (planes == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(orientation: int) -> None:
    upright = noise(6, 4)
    turn_back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turn_back is None else upright.transpose(turn_back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (finished(decode_image(stored, exif=exif)) == numpy.array(upright)).all()


def test_the_colour_profile_survives() -> None:
    assert decode_image(noise(7, 5), icc_profile=SRGB_PROFILE).metadata == Metadata(icc_profile=SRGB_PROFILE)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    picture = decode_image(first, "GIF", save_all=True, append_images=[second])
    assert (picture.planes[0] == (255, 0, 0)).all()


def test_pixels_are_limited_by_the_header_before_anything_is_decoded() -> None:
    # A header that claims 50,000 x 50,000 px, without pixel data.
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    with pytest.raises(TooLarge, match="10000 px"):
        decode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""), LIMITS)


def test_too_many_pixels_are_refused_with_both_numbers() -> None:
    with pytest.raises(TooLarge, match=r"101 x 100 = 10100 px; the limit is 10000 px"):
        decode_image(noise(101, 100))


def test_a_picture_that_is_too_wide_is_refused() -> None:
    with pytest.raises(TooLarge, match="is 60 px wide; the limit is 50 px"):
        decode(encoded(noise(60, 5)), replace(LIMITS, max_width_px=50))
    assert decode(encoded(noise(5, 60)), replace(LIMITS, max_width_px=50)).height == 60


def test_the_width_that_counts_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with pytest.raises(TooLarge, match="is 60 px wide"):
        decode(encoded(noise(5, 60), exif=exif), replace(LIMITS, max_width_px=50))


@pytest.mark.parametrize("upload", [b"hello", b"<svg/>", b"%PDF-1.7", b"\x00" * 64, b"\xff"])
def test_an_upload_that_is_not_a_picture_is_refused_with_the_list_of_formats(upload: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF"):
        decode(upload, LIMITS)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_an_error_of_the_caller(file_format: str, kept: float) -> None:
    whole = encoded(noise(60, 50), file_format)
    with pytest.raises((Unprocessable, UnsupportedFormat)):
        decode(whole[: int(len(whole) * kept)], LIMITS)


def test_broken_metadata_does_not_prevent_decoding() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x011A] = "maker", 72.0
    upload = bytearray(encoded(noise(6, 4), "JPEG", exif=exif))
    second_tag = upload.index(b"\x01\x1a\x00\x05")
    upload[second_tag + 1] = 0  # a tag whose fractional type is invalid: Pillow raises struct.error
    metadata = decode(bytes(upload), LIMITS).metadata
    assert metadata.exif is not None
    assert b"maker" in metadata.exif


def test_pixels_of_32_bits_are_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="32-bit"):
        decode_image(Image.new("F", (4, 4)), "TIFF")


def test_no_damaged_file_raises_anything_but_an_error_for_the_caller() -> None:
    rng = numpy.random.default_rng(2)
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        whole = numpy.frombuffer(encoded(noise(20, 20), file_format), numpy.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            with contextlib.suppress(ServiceError):
                decode(damaged.tobytes(), LIMITS)


@pytest.mark.parametrize("visible", ["all", "one", "half"])
def test_decoding_stays_within_its_bound_whatever_is_visible(visible: str) -> None:
    alpha = numpy.zeros((800, 800), numpy.uint8)
    alpha[{"all": slice(None), "one": slice(1), "half": slice(0, 400)}[visible], : 1 if visible == "one" else 800] = 255
    upload = encoded(Image.fromarray(numpy.dstack([numpy.asarray(noise(800, 800)), alpha])), "PNG")
    limits = replace(LIMITS, max_picture_px=10**6)
    tracemalloc.start()
    try:
        decode(upload, limits)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    pillow_bytes = 4 * 800 * 800  # not traced
    assert peak_bytes + pillow_bytes <= decoding_bytes(read_header(upload, limits))
