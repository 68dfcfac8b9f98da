"""Formats of answers: AVIF of every depth, kept texts and colours, and notes about lost ones."""

import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy
import pytest
import pyvips
from PIL import Image

from app.errors import TooLarge
from app.pictures.decode import decode
from app.pictures.encode import FORMATS
from app.pictures.jxl import is_installed
from app.pictures.layout import layout_of
from app.pictures.picture import Picture
from app.pictures.png_chunks import MAX_TEXTS, PngChunks
from model.pictures.boxes import items_of
from model.pictures.deep import _from_upper_bits
from model.pictures.png_structure import MAX_CHUNKS, Chunk
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS, avif, chunk, levels, opened, png
from tests.app.pictures.test_kinds import answered

WORKFLOW = b'{"nodes": [' + b'{"id": 1},' * 50 + b'{"id": 2}]}'
PARAMETERS = chunk(b"tEXt", b"parameters\0a cat\nSteps: 20, Seed: 1")
COMPRESSED = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(WORKFLOW))
INTERNATIONAL = chunk(b"iTXt", b"prompt\0\0\0\0\0" + "Größe".encode())
COMPRESSED_INTERNATIONAL = chunk(b"iTXt", b"invokeai_metadata\0\1\0de\0\0" + zlib.compress(WORKFLOW))
GENERATED = (PARAMETERS, COMPRESSED, INTERNATIONAL, COMPRESSED_INTERNATIONAL)


def text_chunks(file: bytes) -> list[bytes]:
    """Return the text chunks of a PNG."""
    found, place = [], 8
    while place < len(file):
        end = place + 12 + int.from_bytes(file[place : place + 4])
        if file[place + 4 : place + 8] in (b"tEXt", b"zTXt", b"iTXt"):
            found.append(file[place:end])
        place = end
    return found


def left_out(picture: Picture, form: str) -> tuple[str, ...]:
    return layout_of(picture, FORMATS[form], height=picture.height, width=picture.width).left_out


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_lossless_avif_has_every_level_in_libavif_and_in_libheif(channels: int, bits: int) -> None:
    pixels = levels(channels, bits=8 if bits == 8 else 16)
    picture = replace(decode(png(pixels), LIMITS), file_bits=bits)
    file = answered(picture, "avif", quality=100)
    expected = numpy.array(opened(answered(picture, "webp")).convert("RGBA"))
    seen = numpy.array(opened(file).convert("RGBA"))  # by libavif, in 8 bits
    assert numpy.abs(seen.astype(int) - expected).max() <= (0 if bits == 8 else 1)
    deep = pyvips.Image.heifload_buffer(file)
    assert deep.get("bits-per-sample") == bits
    stored = pyvips.Image.pngload_buffer(answered(picture, "png")).numpy().reshape(*expected.shape[:2], -1)
    if bits > 8:
        levels_of_file = (stored[..., :1].astype(int) * (2**bits - 1) + 32767) // 65535
        assert (deep.numpy()[..., 0] >> (16 - bits) == levels_of_file[..., 0]).all()


@pytest.mark.parametrize("bits", [10, 12])
def test_an_avif_of_some_bits_is_answered_with_as_many(bits: int) -> None:
    picture = decode(avif(levels(3, bits=16), bits=bits), LIMITS)
    assert pyvips.Image.heifload_buffer(answered(picture, "avif")).get("bits-per-sample") == bits
    assert left_out(picture, "avif") == ()
    assert left_out(picture, "webp") == ("bits",)


def test_16_bits_become_12_in_an_avif_which_is_said() -> None:
    picture = decode(png(levels(3, bits=16)), LIMITS)
    assert pyvips.Image.heifload_buffer(answered(picture, "avif")).get("bits-per-sample") == 12
    assert left_out(picture, "avif") == ("bits",)


def test_the_default_quality_of_avif_is_close_to_the_pixels() -> None:
    smooth = noise(5, 4).resize((64, 48), Image.Resampling.BICUBIC)
    picture = decode(encoded(smooth), replace(LIMITS, max_picture_px=10_000))
    seen = numpy.array(opened(answered(picture, "avif")))[::2, ::2]
    assert numpy.abs(seen.astype(int) - numpy.array(smooth)).mean() < 3


def test_deepened_pictures_keep_their_levels() -> None:
    picture = decode(png(levels(3)), LIMITS).deepened()
    assert pyvips.Image.pngload_buffer(answered(picture, "png")).format == "ushort"
    assert (numpy.array(opened(answered(picture, "webp")))[::2, ::2] == levels(3)).all()


def test_an_avif_that_claims_endless_parts_costs_nothing() -> None:
    file = bytearray(encoded(noise(9, 7), "AVIF"))
    place = file.index(b"iloc")
    file[place + 8 : place + 10] = b"\0\0"
    assert items_of(bytes(file)).nclx == (1, 13, 6)


def test_texts_of_generators_stay_byte_for_byte() -> None:
    answer = answered(decode(png(levels(3), *GENERATED), LIMITS), "png")
    assert text_chunks(answer) == list(GENERATED)
    image = Image.open(io.BytesIO(answer))
    image.load()
    assert image.info["parameters"] == "a cat\nSteps: 20, Seed: 1"
    assert image.info["workflow"] == WORKFLOW.decode()
    assert image.info["prompt"] == "Größe"


def test_texts_behind_the_pixels_stay() -> None:
    file = encoded(noise(9, 7))
    assert text_chunks(answered(decode(file[:-12] + PARAMETERS + file[-12:], LIMITS), "png")) == [PARAMETERS]


def test_texts_are_dropped_by_strip_and_named_where_they_have_no_place() -> None:
    file = png(levels(3), *GENERATED)
    assert text_chunks(answered(decode(file, LIMITS, "strip"), "png")) == []
    assert left_out(decode(file, LIMITS, "strip"), "webp") == ()
    assert left_out(decode(file, LIMITS), "webp") == ("text",)


@pytest.mark.parametrize("keyword", ["exif:PixelXDimension", "date:create", "Thumb::URI", "Raw profile type iptc"])
def test_texts_about_the_old_file_are_dropped(keyword: str) -> None:
    picture = decode(png(levels(3), chunk(b"tEXt", keyword.encode() + b"\0value")), LIMITS, "keep-gps")
    assert (picture.metadata.texts, left_out(picture, "png")) == ((), ())


def test_texts_of_a_location_are_kept_on_request() -> None:
    file = png(levels(3), chunk(b"tEXt", b"GPSPosition\x0059 N, 18 E"))
    assert text_chunks(answered(decode(file, LIMITS), "png")) == []
    assert len(text_chunks(answered(decode(file, LIMITS, "keep-gps"), "png"))) == 1


def test_a_text_that_expands_too_far_is_left_out_which_is_said() -> None:
    bomb = zlib.compress(bytes(10**7), 9)
    for kind, head in ((b"zTXt", b"workflow\0\0"), (b"iTXt", b"workflow\0\1\0\0\0")):
        picture = decode(png(levels(3), chunk(kind, head + bomb), PARAMETERS), LIMITS)
        assert text_chunks(answered(picture, "png")) == [PARAMETERS]
        assert left_out(picture, "png") == ("text",)


def test_texts_are_bounded_in_number_and_together() -> None:
    many = decode(png(levels(3), *[chunk(b"tEXt", b"k%d\0v" % n) for n in range(300)]), LIMITS)
    assert (len(many.metadata.texts), left_out(many, "png")) == (200, ("text",))
    large = chunk(b"tEXt", b"k\0" + b"x" * (LIMITS.max_metadata_bytes // 2))
    assert len(decode(png(levels(3), large, large, large), LIMITS).metadata.texts) == 2


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"tEXt", b"no separator"),
        chunk(b"tEXt", b"\0no keyword"),
        chunk(b"zTXt", b"k\0\1" + zlib.compress(b"v")),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"value")[:-3]),
        chunk(b"iTXt", b"k\0\2\0\0\0v"),
        chunk(b"iTXt", b"k\0\0\0v"),
        PARAMETERS[:-1] + b"x",
    ],
)
def test_broken_texts_are_dropped(broken: bytes) -> None:
    assert text_chunks(answered(decode(png(levels(3), broken), LIMITS), "png")) == []


def test_what_else_has_no_place_is_named() -> None:
    clear = decode(png(levels(4), chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))), LIMITS)
    assert left_out(clear, "jpeg") == ("transparency",)
    assert left_out(clear, "webp") == ("dpi",)
    assert left_out(clear, "png") == ()


def test_boxes_of_an_avif_are_those_of_the_picture_and_its_alpha() -> None:
    file = answered(decode(png(levels(4)), LIMITS), "avif")
    found = items_of(file)
    assert found.primary.property(b"av1C") is not None
    assert [b"auxiliary:alpha" in (item.property(b"auxC") or b"") for item in found.others.values()] == [True]


@pytest.mark.parametrize(("form", "quality", "most"), [("avif", None, 4), ("avif", 60, 8), ("webp", 90, 4)])
def test_no_black_bleeds_into_the_edges_of_a_lossy_answer(form: str, quality: int | None, most: int) -> None:
    rows, columns = numpy.mgrid[:40, :40]
    alpha = (255 * (14.5 - numpy.hypot(rows - 19.5, columns - 19.5)).clip(0, 1)).astype(numpy.uint8)
    orange = numpy.array((255, 140, 20), numpy.uint8)
    picture = decode(
        png(numpy.dstack((numpy.where(alpha[..., None] > 0, orange, 0).astype(numpy.uint8), alpha))), LIMITS
    )
    answer = numpy.array(opened(answered(picture, form, quality=quality)).convert("RGBA"))
    shown = answer[..., 3] > 0
    assert numpy.abs(answer[shown][:, :3] - orange.astype(int)).max() <= most
    assert (answer[::2, ::2, 3] == alpha).all()


@pytest.mark.skipif(not is_installed(), reason="needs the extra jxl")
def test_jpeg_xl_keeps_pixels_exif_and_alpha() -> None:
    exif = Image.Exif()
    exif[271] = "Maker"
    upload = encoded(Image.fromarray(levels(4)), "PNG", exif=exif.tobytes())
    picture = decode(upload, LIMITS)
    answer = opened(answered(picture, "jxl", quality=100))
    assert (numpy.array(answer)[::2, ::2][..., 3] == levels(4)[..., 3]).all()
    assert answer.getexif()[271] == "Maker"
    assert left_out(decode(png(levels(3, bits=16)), LIMITS), "jxl") == ("bits",)


@pytest.mark.parametrize(("per_metre", "expected"), [(2_580_118, ()), (3_333_333, ("dpi",))])
def test_a_resolution_that_a_jpeg_cannot_say_is_left_out(per_metre: int, expected: tuple[str, ...]) -> None:
    picture = decode(png(levels(3), chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))), LIMITS)
    assert left_out(picture, "jpeg") == expected
    dpi = opened(answered(picture, "jpeg")).info.get("dpi", (0, 0))[0]
    assert round(float(dpi)) == (0 if expected else round(per_metre * 0.0254))


def test_texts_that_do_not_decompress_are_inspected_only_up_to_a_number() -> None:
    broken = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(WORKFLOW)[:-6])
    seen = []
    chunks = PngChunks(max_text_bytes=10**6)
    for text in (*(broken,) * MAX_TEXTS, PARAMETERS):
        chunks.reads(chunk_of(text))
        seen.append(chunks.texts_left_out)
    assert seen == [False] * MAX_TEXTS + [True]
    assert chunks.texts == []


@pytest.mark.parametrize("damage", [b"", b"\xff\xff\xff"], ids=["too large", "broken"])
def test_texts_that_are_not_kept_are_decompressed_only_up_to_a_number_of_bytes(damage: bytes) -> None:
    large = zlib.compressobj()
    data = large.compress(bytes(100_000)) + large.flush(zlib.Z_FULL_FLUSH) + damage
    chunks = PngChunks(max_text_bytes=90_000 if not damage else 110_000)
    for _ in range(3):
        chunks.reads(chunk_of(chunk(b"zTXt", b"workflow\0\0" + data)))
    chunks.reads(chunk_of(PARAMETERS))
    small = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"small"))
    chunks.reads(chunk_of(small))
    assert [body[:8] for _, body in chunks.texts] == [b"paramete", b"workflow"]
    for _ in range(3):
        chunks.reads(chunk_of(chunk(b"zTXt", b"workflow\0\0" + data)))
    chunks.reads(chunk_of(small))
    assert len(chunks.texts) == 2
    assert chunks.texts_left_out


def test_only_the_first_profile_is_read() -> None:
    chunks, profile = PngChunks(max_text_bytes=0), chunk(b"iCCP", b"a\0\0" + zlib.compress(b"profile"))
    assert [chunks.reads(chunk_of(profile)) for _ in range(3)] == [True, False, False]


def chunk_of(data: bytes) -> Chunk:
    return Chunk(kind=data[4:8], place=0, body=memoryview(data)[8:-4], sound=True)


def test_a_png_of_very_many_chunks_is_refused_soon() -> None:
    upload = png(levels(3), *[chunk(b"tEXt", b"")] * MAX_CHUNKS)
    with pytest.raises(TooLarge, match="more than 65536 chunks"):
        decode(upload, replace(LIMITS, max_metadata_bytes=10**9))


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_pictures_are_stretched_in_little_more_memory_than_their_own(bits: int) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 2**bits, (1000, 600, 3), numpy.uint16) << numpy.uint16(16 - bits)
    tracemalloc.start()
    made = _from_upper_bits(pixels, bits)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1.5 * pixels.nbytes
    assert numpy.array_equal(made, numpy.round((pixels >> (16 - bits)) / (2**bits - 1) * 65535))
