"""AVIF and HEIC: chroma of half the size, and boxes for the display of the pixels."""

import struct
from unittest.mock import Mock

import numpy
import pytest
import pyvips
from numpy.typing import NDArray

from app.pictures.avif_boxes import avif_with
from app.pictures.colours import Colours, nclx
from app.pictures.decode import decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from app.pictures.picture import Metadata, Pixels
from model.pictures import boxes
from model.pictures.heic import installed
from tests.app.pictures.files import LIMITS
from tests.app.pictures.heic_file import SIDE, heic

needs_heic = pytest.mark.skipif(installed() is None, reason="no reader of HEIC: the extra `heic`")
CROP = (20, 1, 10, 1, 20 - 32, 2, 10 - 16, 2)
"""The box `clap` for the upper left 20 x 10 px of 32 x 16."""

NO_COLOURS: Colours = {}
HDR: Colours = {b"cICP": bytes((9, 16, 0, 1))}

prepare_decoders()


def coded(pixels: Pixels, *, bits: int, half_colour: bool = False) -> bytes:
    """Encode samples (H, W, C) without loss, or with colour of half the size at the best quality."""
    made = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb" if bits == 8 else "rgb16")
    options = {"Q": 100, "subsample_mode": "on"} if half_colour else {"lossless": True}
    file: bytes = made.heifsave_buffer(compression="av1", bitdepth=bits, effort=0, keep="none", **options)
    return file


def with_property(encoded: bytes, kind: bytes, body: bytes, colours: Colours = NO_COLOURS) -> bytes:
    """Write an AVIF whose picture has one more property, of more than 4 bytes."""
    placeholder = bytes(len(body) - 4)
    file = avif_with(encoded, Metadata(icc_profile=placeholder), identity=True)
    named = file.replace(b"nclx" + struct.pack(">HH", *nclx({})), b"nclx" + struct.pack(">HH", *nclx(colours)))
    return named.replace(b"colrprof" + placeholder, kind + body)


def steps(levels: NDArray[numpy.integer]) -> NDArray[numpy.float64]:
    """Return the differences of neighbours, away from the edges, in levels of 8 bits."""
    most = numpy.iinfo(levels.dtype).max
    return numpy.diff(levels[4:-4] / most * 255)


GREY_BLOCK = numpy.full((SIDE, SIDE), 77, numpy.uint16)


@pytest.mark.parametrize(
    "file",
    [
        coded(GREY_BLOCK.astype(numpy.uint8)[..., None], bits=8),
        coded(GREY_BLOCK[..., None], bits=10),
        pytest.param(heic(GREY_BLOCK), marks=needs_heic),
    ],
    ids=["AVIF", "deep AVIF", "HEIC"],
)
def test_items_are_parsed_once_for_the_header_and_once_for_the_picture(
    file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = Mock(side_effect=boxes.places_in)  # part of each parse
    monkeypatch.setattr(boxes, "places_in", parse)
    read_header(file, LIMITS)
    assert parse.call_count == 1
    decode(file, LIMITS)
    assert parse.call_count == 2


@needs_heic
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("quarter_turns", [0, 1, 2])
def test_smooth_colour_of_a_heic_stays_smooth(bits: int, quarter_turns: int) -> None:
    whole = 2**bits - 1
    luma = numpy.full((SIDE, SIDE), whole // 2, numpy.uint16)
    ramp = numpy.linspace(0.35, 0.65, SIDE // 2) * whole
    blue = numpy.tile(ramp.round().astype(numpy.uint16), (SIDE // 2, 1))
    colour = numpy.rot90(
        decode(heic(luma, blue, bits=bits, quarter_turns=quarter_turns), LIMITS).planes[0], -quarter_turns
    )
    expected = 0.3 * 255 * 1.772 / (SIDE - 2)
    assert numpy.abs(steps(colour[SIDE // 2, :, 2]) - expected).max() <= 1


@pytest.mark.parametrize("bits", [10, 12])
def test_smooth_colour_of_a_deep_avif_stays_smooth_and_luma_stays_the_same(bits: int) -> None:
    picture = numpy.full((16, 64, 3), 0.5)
    picture[..., 2] = numpy.linspace(0.2, 0.8, 64)
    file = coded((picture * 65535).astype(numpy.uint16), bits=bits, half_colour=True)
    colour = decode(file, LIMITS).planes[0]
    assert numpy.abs(steps(colour[8, :, 2]) - 0.6 * 255 / 63).max() <= 0.8
    luma = numpy.array((0.299, 0.587, 0.114))
    assert numpy.abs(colour / 65535 @ luma - picture @ luma).max() <= 0.005


def test_colour_of_full_size_is_not_touched() -> None:
    pixels = numpy.random.default_rng(0).integers(0, 2**10, (8, 8, 3), numpy.uint16).repeat(2, 0).repeat(2, 1)
    picture = decode(coded(pixels << numpy.uint16(6), bits=10), LIMITS)
    assert (numpy.round(picture.planes[0] / 65535 * 1023) == pixels).all()


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_colour_that_was_multiplied_by_alpha_is_divided(bits: int) -> None:
    whole = 255 if bits == 8 else 65535
    pixels = numpy.zeros((16, 16, 4), numpy.uint8 if bits == 8 else numpy.uint16)
    pixels[..., 0], pixels[..., 3] = 0.4 * whole, 0.5 * whole
    plain = avif_with(coded(pixels, bits=bits), Metadata(xmp=b"x"), identity=True)
    file = plain.replace(b"cdsc\0\4\0\1\0\1", b"prem\0\1\0\1\0\2")
    assert file != plain
    assert numpy.abs(decode(file, LIMITS).planes[0, ..., 0] / whole - 0.8).max() <= 0.01


@pytest.mark.parametrize(
    ("kind", "body", "chunk", "expected"),
    [
        (b"mdcv", b"gxgybxbyrxrywxwymostleas", b"mDCV", b"rxrygxgybxbywxwymostleas"),
        (b"clli", struct.pack(">HHxx", 1000, 400), b"cLLI", struct.pack(">II", 10_000_000, 4_000_000)),
    ],
)
def test_the_light_of_an_hdr_picture_is_kept_as_in_a_png(
    kind: bytes, body: bytes, chunk: bytes, expected: bytes
) -> None:
    encoded = coded(numpy.zeros((16, 32, 3), numpy.uint16), bits=10)
    picture = decode(with_property(encoded, kind, body, HDR), LIMITS)
    assert picture.metadata.colours == {**HDR, chunk: expected}
    assert layout_of(picture, FORMATS["avif"], height=16, width=32).left_out == (kind.decode(),)


@pytest.mark.parametrize("bits", [8, 10])
def test_a_crop_is_obeyed_in_every_depth(bits: int) -> None:
    whole = 255 if bits == 8 else 65535
    pixels = numpy.zeros((16, 32, 3), numpy.uint8 if bits == 8 else numpy.uint16)
    pixels[:10, :20] = whole
    file = with_property(coded(pixels, bits=bits), b"clap", numpy.array(CROP, ">i4").tobytes())
    picture = decode(file, LIMITS)
    assert (picture.height, picture.width) == (10, 20)
    assert (picture.planes == whole).all()


@pytest.mark.parametrize("bits", [8, 10])
def test_xmp_does_not_turn_an_avif(bits: int) -> None:
    pixels = numpy.zeros((16, 32, 3), numpy.uint8 if bits == 8 else numpy.uint16)
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    picture = decode(avif_with(coded(pixels, bits=bits), Metadata(xmp=xmp), identity=True), LIMITS)
    assert (picture.height, picture.width) == (16, 32)


@pytest.mark.parametrize("bits", [8, 10])
def test_an_avif_without_colour_is_grey(bits: int) -> None:
    pixels = numpy.zeros((16, 32, 3), numpy.uint8 if bits == 8 else numpy.uint16)
    file = avif_with(coded(pixels, bits=bits), Metadata(), identity=True)
    assert not decode(file, LIMITS).grey
    without = bytearray(file)
    without[file.index(b"av1C") + 6] |= 0x10
    assert decode(bytes(without), LIMITS).grey
