"""Every kind of upload in, every format out: pixels, depth and transparency are kept."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy
import pytest
import pyvips
from PIL import Image, ImageOps

from app.errors import TooLarge, Unprocessable, UnsupportedFormat
from app.pictures.decode import decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS, writable_formats
from app.pictures.encode import encoded as answer_pieces
from app.pictures.layout import layout_of
from app.pictures.picture import Picture, Pixels
from app.pictures.png_chunks import PngChunks
from app.pictures.postprocess import Postprocessor
from model.pictures.png_structure import keeps_orientation, png_header
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import FILES, HEIGHT, LIMITS, SRGB_PROFILE, WIDTH, avif, chunk, levels, opened, png, tiff
from tests.app.pictures.metadata_files import xmp

pytestmark = pytest.mark.filterwarnings("ignore")
prepare_decoders()

DEEP = {kind for kind in FILES if "16 bits" in kind or "10 bits" in kind}
GREY = {kind for kind in FILES if "grey" in kind or "1 bit" in kind}
TRANSPARENT = {kind for kind in FILES if "alpha" in kind or "transparent" in kind}
ANIMATED = {"APNG", "WebP animated", "TIFF of pages", "GIF animated"}


def answered(picture: Picture, form: str, quality: int | None = None) -> bytes:
    """Return the answer of a network that doubles every pixel."""
    upscaled: Pixels = picture.planes.repeat(2, axis=1).repeat(2, axis=2)
    height, width = 2 * picture.height, 2 * picture.width
    layout = layout_of(picture, FORMATS[form], height=height, width=width, quality=quality)
    finish = Postprocessor(picture, 2, layout)

    async def rows() -> AsyncIterator[Pixels]:
        yield finish.rows(upscaled[:, :3])
        yield finish.rows(upscaled[:, 3:])

    async def whole() -> bytes:
        with ThreadPoolExecutor(1) as pool:
            return b"".join([piece async for piece in answer_pieces(rows(), layout, pool)])

    return asyncio.run(whole())


@pytest.mark.parametrize("form", [form.name for form in writable_formats()])
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_upload_keeps_its_nature_in_every_format(kind: str, form: str) -> None:
    picture = decode(FILES[kind](), LIMITS)
    assert (picture.height, picture.width) == (HEIGHT, WIDTH)
    assert picture.bits == (16 if kind in DEEP else 8)
    assert picture.grey == (kind in GREY)
    assert picture.transparent == (kind in TRANSPARENT)
    assert picture.frames == (2 if kind in ANIMATED else 1)
    answer = answered(picture, form)
    image = opened(answer)
    assert image.size == (2 * WIDTH, 2 * HEIGHT)
    if form == "png":
        seen = pyvips.Image.pngload_buffer(answer)
        assert seen.format == ("ushort" if kind in DEEP else "uchar")
        assert seen.bands == (1 if kind in GREY else 3) + (kind in TRANSPARENT)
    else:
        assert image.has_transparency_data == (kind in TRANSPARENT and form != "jpeg")


@pytest.mark.parametrize("kind", sorted(set(FILES) - DEEP - {"JPEG CMYK", "TIFF CMYK"}))
def test_8_bit_pixels_equal_pillows(kind: str) -> None:
    file = FILES[kind]()
    expected = numpy.array(opened(file).convert("RGBA"))
    expected[expected[..., 3] == 0] = 0
    answer = numpy.array(opened(answered(decode(file, LIMITS), "png")).convert("RGBA"))
    assert (answer[::2, ::2] == expected).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("largest", [65_535, 300, 1])
def test_16_bits_come_back_exactly_however_dark(channels: int, largest: int) -> None:
    pixels = (levels(channels, bits=16).astype(int) % (largest + 1)).astype(numpy.uint16)
    if channels in (2, 4):
        pixels[..., -1] = pixels[..., -1].clip(1)
    for file in (png(pixels), tiff(pixels)):
        answer = pyvips.Image.pngload_buffer(answered(decode(file, LIMITS), "png")).numpy()
        assert (answer.reshape(2 * HEIGHT, 2 * WIDTH, channels)[::2, ::2] == pixels).all()


def test_16_bits_are_rounded_to_8_where_the_format_has_no_more() -> None:
    pixels = levels(3, bits=16)
    answer = numpy.array(opened(answered(decode(png(pixels), LIMITS), "webp")))[::2, ::2]
    assert (answer == numpy.round(pixels / 257)).all()


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_an_avif_of_more_bits_is_white(bits: int) -> None:
    white = decode(avif(numpy.full((HEIGHT, WIDTH, 3), 65_535, numpy.uint16), bits=bits), LIMITS)
    assert white.planes.min() >= 65_535 - 65_535 // 2**bits * 2


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_level_of_few_bits_is_scaled_correctly(bits: int) -> None:
    packed = numpy.array([[0b01_01_01_11]], numpy.uint8)[..., None]
    clear = {1: 1, 2: 1, 4: 5}[bits]
    picture = decode(png(packed, chunk(b"tRNS", clear.to_bytes(2)), bits=bits), LIMITS)
    expected = {1: [255, 0, 255, 0, 255, 0, 0, 0], 2: [0, 0, 0, 255], 4: [0, 255]}[bits]
    assert picture.planes[1, 0, :, 0].tolist() == expected


def test_cmyk_becomes_srgb_through_its_profile() -> None:
    profile = pyvips.Operation.call("profile_load", "cmyk")
    inks = levels(4)
    image = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    file = encoded(image, "TIFF", icc_profile=profile)
    picture = decode(file, replace(LIMITS, max_metadata_bytes=2**20))
    seen = pyvips.Image.new_from_array(inks).copy(interpretation="cmyk")
    expected = seen.icc_transform("srgb", input_profile="cmyk", intent="relative", black_point_compensation=True)
    assert numpy.abs(picture.planes[0].astype(int) - expected.numpy()).max() <= 2
    assert numpy.abs(picture.planes[0].astype(int) - numpy.array(image.convert("RGB"))).max() > 20
    assert picture.metadata.icc_profile is None


@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_a_profile_of_cmyk_without_tables_is_dropped(file_format: str) -> None:
    head = bytes(8) + b"\2\x40\0\0prtrCMYKLab " + bytes(12) + b"acsp"
    profile = (132).to_bytes(4) + head[4:].ljust(128, b"\0")
    image = Image.new("CMYK", (8, 8), (10, 200, 30, 40))
    picture = decode(encoded(image, file_format, icc_profile=profile), LIMITS)
    assert numpy.abs(picture.planes[0].astype(int) - (207, 46, 190)).max() <= 2


def test_a_profile_of_another_class_is_dropped() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    picture = decode(encoded(image, "TIFF", icc_profile=SRGB_PROFILE), LIMITS)
    assert (picture.planes[0] == (255, 0, 0)).all()
    assert picture.metadata.icc_profile is None


def test_transparency_becomes_white_in_a_jpeg() -> None:
    pixels = numpy.zeros((HEIGHT, WIDTH, 4), numpy.uint8)
    pixels[:, 5:, 3] = 255
    answer = numpy.array(opened(answered(decode(png(pixels), LIMITS), "jpeg"))).astype(int)
    assert answer[:, :6].min() > 245
    assert answer[:, 16:].max() < 10


def test_jpeg_is_not_subsampled_and_obeys_quality() -> None:
    picture = decode(encoded(noise(40, 40)), LIMITS)
    good, poor = answered(picture, "jpeg"), answered(picture, "jpeg", quality=20)
    assert len(poor) < len(good)
    assert [component[1:3] for component in opened(good).layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # of a JPEG


@pytest.mark.parametrize("quality", [None, 100])
def test_webp_is_lossless_unless_asked_otherwise(quality: int | None) -> None:
    picture = decode(encoded(noise(40, 40)), LIMITS)
    options = {} if quality is None else {"quality": quality}
    assert (numpy.array(opened(answered(picture, "webp", **options)))[::2, ::2] == picture.planes[0]).all()
    assert len(answered(picture, "webp", quality=50)) < len(answered(picture, "webp"))


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 3)])
def test_extreme_sizes_are_decoded(size: tuple[int, int]) -> None:
    picture = decode(encoded(noise(*size)), LIMITS)
    assert (picture.width, picture.height) == size


def test_a_jpeg_of_65500_px_is_refused_by_its_header() -> None:
    file = encoded(Image.new("L", (65_500, 1)), "JPEG")
    with pytest.raises(TooLarge, match="65500 x 1 = 65500 px"):
        read_header(file, LIMITS)


def test_the_memory_of_a_picture_is_known_from_its_header() -> None:
    for kind, make in FILES.items():
        header = read_header(make(), LIMITS)
        assert (header.height, header.width) == (HEIGHT, WIDTH)
        assert header.bits == (16 if kind in DEEP else 8)
        assert header.planes == (2 if kind in TRANSPARENT else 1)


def test_more_frames_than_the_limit_are_refused() -> None:
    for kind in ANIMATED:
        with pytest.raises(TooLarge, match="more than 1 frames"):
            decode(FILES[kind](), replace(LIMITS, max_frames=1))


def test_a_piece_without_pixels_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge, match="eXIf at byte 33 has 60000 bytes; the limit is 50000"):
        decode(png(levels(3), chunk(b"eXIf", bytes(60_000))), LIMITS)


@pytest.mark.parametrize("kind", [b"caBX", b"npLy", b"tEXt", b"zTXt"])
def test_an_unused_chunk_may_have_any_size(kind: bytes) -> None:
    pixels = levels(3)
    assert (decode(png(pixels, chunk(kind, bytes(60_000))), LIMITS).planes[0] == pixels).all()


def test_a_decompression_bomb_in_a_text_is_refused_or_ignored() -> None:
    bomb = zlib.compress(bytes(5_000_000))
    with pytest.raises(TooLarge, match="far too large"):
        decode(png(levels(3), chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)), LIMITS)
    assert decode(png(levels(3), chunk(b"zTXt", b"Comment\0\0" + bomb)), LIMITS).bits == 8


def test_a_compressed_xmp_may_have_four_mib() -> None:
    packet = xmp("<dc:title>" + 4_000_000 * " " + "</dc:title>").encode()
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)
    assert decode(png(levels(3), chunk(b"iTXt", text)), LIMITS).bits == 8


def test_of_several_texts_of_one_keyword_a_decoder_gets_the_first() -> None:
    packets = [b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(name).encode()) for name in ("first", "second")]
    exif = [b"Raw profile type exif\0\0" + zlib.compress(name) for name in (b"first", b"second")]
    damaged = bytearray(chunk(b"iTXt", packets[1]))
    damaged[-1] ^= 1
    texts = [chunk(b"iTXt", packet) for packet in packets] + [chunk(b"zTXt", content) for content in exif]
    file = png(levels(3), bytes(damaged), *texts)
    for keeps in (keeps_orientation, PngChunks(max_text_bytes=99).reads):
        assert png_header(file, LIMITS, keeps).still == png(levels(3), texts[0], texts[2])


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    file = FILES["JPEG progressive"]()
    scan = file.rindex(b"\xff\xda")
    with pytest.raises(TooLarge, match="scans; the limit is 50"):
        decode(file[:-2] + 200 * file[scan:-2] + b"\xff\xd9", LIMITS)


def test_too_many_pixels_per_byte_are_refused() -> None:
    with pytest.raises(TooLarge, match="the limit is 1 px a byte"):
        decode(encoded(Image.new("RGB", (100, 90)), "WEBP", lossless=True), replace(LIMITS, max_expansion=1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file[:60], "truncated: its chunk IDAT at byte 33"),
        (lambda file: file[:-12], "before its chunk IEND"),
        (lambda file: file[:45] + bytes([file[45] ^ 1]) + file[46:], "chunk IDAT at byte 33 fails its checksum"),
        (lambda file: file[:8] + chunk(b"IHDR", bytes(13)) + file[33:], "0 x 0 px"),
        (lambda file: file[:33] + file[-12:], "no chunk IDAT"),
        (lambda file: file[:8] + file[33:], "begins with another chunk"),
        (
            lambda file: file[:-12] + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"") + file[-12:],
            "between its chunks IDAT",
        ),
    ],
)
def test_the_error_for_a_damaged_png_says_what_is_wrong(damage: object, said: str) -> None:
    assert callable(damage)
    with pytest.raises(Unprocessable, match=said):
        decode(damage(FILES["PNG"]()), LIMITS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_as_pillow_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(noise(WIDTH, HEIGHT), kind, exif=exif)
    expected = numpy.array(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB"))
    picture = decode(file, LIMITS)
    assert (picture.planes[0] == expected).all()
    assert opened(answered(picture, "jpeg")).getexif().get(0x0112, 1) == 1


def test_a_tiff_of_deep_grey_with_alpha_keeps_both() -> None:
    pixels = levels(2, bits=16)
    picture = decode(tiff(pixels), LIMITS)
    assert picture.grey
    assert (picture.planes[1, ..., 0] == pixels[..., 1]).all()


def test_the_header_of_such_a_tiff_is_read_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    header = read_header(tiff(levels(2, bits=16)), LIMITS)
    assert (header.planes, header.height, header.width, header.bits) == (2, HEIGHT, WIDTH, 16)


def test_float_colour_is_refused() -> None:
    made = pyvips.Image.new_from_array(numpy.zeros((4, 4, 3), numpy.float32)).copy(interpretation="srgb")
    with pytest.raises(UnsupportedFormat, match="fixed range"):
        decode(made.tiffsave_buffer(), LIMITS)


@pytest.mark.parametrize("channels", [2, 4])
def test_premultiplied_deep_colour_is_divided_by_alpha(channels: int) -> None:
    pixels = numpy.full((HEIGHT, WIDTH, channels), 10_000, numpy.uint16)
    pixels[..., -1] = 40_000
    file = bytearray(tiff(pixels))
    extra_samples = file.index(struct.pack("<HHIH", 338, 3, 1, 2))
    file[extra_samples + 8] = 1
    picture = decode(bytes(file), LIMITS)
    assert (picture.planes[1] == 40_000).all()
    assert numpy.abs(picture.planes[0].astype(int) - 10_000 * 65_535 / 40_000).max() <= 1
