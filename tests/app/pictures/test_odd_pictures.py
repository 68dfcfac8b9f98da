"""Odd files from real collections: each is decoded correctly, or refused with the reason."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.errors import TooLarge, Unprocessable, UnsupportedFormat
from app.pictures.decode import decode, prepare_decoders, read_header
from app.pictures.picture import Pixels
from model.pictures import deep
from model.pictures.errors import NotAccepted
from model.pictures.heic import installed
from model.pictures.reading import read_size
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import HEIGHT, LIMITS, WIDTH, chunk, levels, opened, png, tiff
from tests.app.pictures.heic_file import SIDE, heic
from tests.model.pictures.files import box
from tests.tiff_file import Tiff

needs_heic = pytest.mark.skipif(installed() is None, reason="no reader of HEIC: the extra `heic`")

prepare_decoders()


def bmp(
    pixels: NDArray[numpy.unsignedinteger],
    masks: tuple[int, ...],
    *,
    upside_down: bool = False,
    header_bytes: int = 56,
    compression: int = 3,
) -> bytes:
    """Make a BMP with bit fields from pixels (H, W) of 16 or 32 bits."""
    height, width = pixels.shape
    bits = 8 * pixels.itemsize
    pad = -width * pixels.itemsize % 4
    rows = [row.tobytes() + bytes(pad) for row in (pixels if upside_down else pixels[::-1])]
    fields = struct.pack("<4I", *masks, *(4 - len(masks)) * (0,))
    head = struct.pack("<IiiHHI", header_bytes, width, -height if upside_down else height, 1, bits, compression)
    header = (head + struct.pack("<IiiII", 0, 2835, 2835, 0, 0) + fields).ljust(header_bytes, b"\0")
    begins = 14 + len(header)
    return struct.pack("<2sIII", b"BM", begins + sum(map(len, rows)), 0, begins) + header + b"".join(rows)


MASKS = {
    "<u2": [(0xF00, 0xF0, 0xF, 0xF000), (0xC000, 0x3800, 0x7), (0x7C00, 0x3E0, 0x1F)],
    "<u4": [(0xFF000000, 0xFF0000, 0xFF00), (0x3FF00000, 0xFFC00, 0x3FF), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)],
}


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize(("kind", "masks"), [(kind, masks) for kind, several in MASKS.items() for masks in several])
def test_bit_fields_of_any_size_are_read(kind: str, masks: tuple[int, ...], *, upside_down: bool) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 2 ** (8 * numpy.dtype(kind).itemsize), (5, 7)).astype(kind)
    file = bmp(pixels, masks, upside_down=upside_down)
    picture = decode(file, LIMITS)
    assert read_header(file, LIMITS).planes == len(picture.planes) == (2 if len(masks) == 4 else 1)
    seen = numpy.concatenate((picture.planes[0], picture.planes[-1, :, :, :1]), axis=-1)
    for channel, mask in enumerate(masks):
        wanted = numpy.round((pixels & mask).astype(float) / mask * 255)
        visible = picture.planes[-1, ..., 0] > 0 if len(masks) == 4 else numpy.full(pixels.shape, True)
        assert numpy.abs(seen[..., channel] - wanted)[visible].max() <= 1  # Pillow, which supports some, does not round


@pytest.mark.parametrize("header_bytes", [40, 108, 124])
def test_16_bits_without_fields_are_5_for_each_channel_and_rounded(header_bytes: int) -> None:
    pixels = numpy.arange(2**15, dtype="<u2").reshape(128, 256) | numpy.uint16(0x8000)
    picture = decode(bmp(pixels, (), header_bytes=header_bytes, compression=0), replace(LIMITS, max_picture_px=2**15))
    assert not picture.transparent
    levels_of_file = pixels[..., None] >> numpy.array((10, 5, 0)) & 31
    assert (picture.planes[0] == numpy.round(levels_of_file / 31 * 255)).all()
    tiny = bmp(numpy.zeros((1, 1), "<u2"), (), header_bytes=40, compression=0)
    smallest = tiny[:10] + struct.pack("<I", 54) + tiny[14:54] + tiny[-4:]
    assert decode(smallest, LIMITS).planes.shape == (1, 1, 1, 3)


ALPHA_MASKS = {
    "8888": ("<u4", (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "8888 from below": ("<u4", (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "alpha first": ("<u4", (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "1555": ("<u2", (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "4444": ("<u2", (0xF00, 0xF0, 0xF, 0xF000)),
}
HEADERS = {"V3": (56, 3), "V4": (108, 3), "V5": (124, 3), "V1 with alpha fields": (40, 6)}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("order", ALPHA_MASKS)
@pytest.mark.parametrize("empty", [False, True])
def test_an_alpha_field_counts_where_any_bit_is_set(header: str, order: str, *, empty: bool) -> None:
    kind, masks = ALPHA_MASKS[order]
    pixels = numpy.random.default_rng(0).integers(0, 2 ** (8 * numpy.dtype(kind).itemsize), (5, 7)).astype(kind)
    pixels &= numpy.array(sum(masks[:3]) if empty else sum(masks), kind)
    header_bytes, compression = HEADERS[header]
    picture = decode(bmp(pixels, masks, header_bytes=header_bytes, compression=compression), LIMITS)
    alpha = numpy.round((pixels & masks[3]).astype(float) / masks[3] * 255)
    assert picture.transparent != empty
    visible = numpy.full(pixels.shape, True) if empty else alpha > 0
    for channel, mask in enumerate(masks[:3]):
        wanted = numpy.round((pixels & mask).astype(float) / mask * 255)
        assert numpy.abs(picture.planes[0, ..., channel] - wanted)[visible].max() <= 1
    if not empty:
        assert (picture.planes[1, ..., 0] == alpha).all()


def test_a_bmp_with_bit_fields_keeps_its_resolution() -> None:
    picture = decode(bmp(numpy.zeros((5, 7), "<u2"), (0xF00, 0xF0, 0xF)), LIMITS)
    assert picture.metadata.dpi == pytest.approx((72, 72), abs=0.1)


def test_a_png_for_ios_is_refused_by_name() -> None:
    file = png(levels(3))
    with pytest.raises(UnsupportedFormat, match="CgBI"):
        read_header(file[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + file[8:], LIMITS)


def test_a_truncated_bmp_with_bit_fields_is_refused() -> None:
    file = bmp(numpy.zeros((5, 7), "<u2"), (0xF00, 0xF0, 0xF))
    with pytest.raises(Unprocessable, match="7 x 5 px are not in it"):
        decode(file[:-1], LIMITS)
    with pytest.raises(Unprocessable, match="truncated"):
        decode(file[:60], LIMITS)


@pytest.mark.parametrize(
    ("before", "error", "said"),
    [
        (b"", TooLarge, "65535 x 65535"),
        (b"\0", Unprocessable, "no frame follows its header"),
        (b"!\xf9\0\4,;;;\0", Unprocessable, "no frame follows its header"),
    ],
)
def test_a_gif_is_not_opened_before_the_size_of_its_frame_is_known(
    before: bytes, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Image, "open")
    frame = b"," + struct.pack("<4HB", 0, 0, 65_535, 65_535, 0) + b"\2\0"
    with pytest.raises(error, match=said):
        read_header(b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + before + frame + b";", LIMITS)


@pytest.mark.parametrize("kind", [b"\xff\xfe\xfd\xfc", b"mime"])
def test_a_heic_with_items_of_invalid_type_never_reaches_its_decoder(kind: bytes) -> None:
    item = box(b"infe", b"\2\0\0\0\0\1\0\0" + kind + b"\0" + b"\xff\xff\0")
    file = box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + box(b"iinf", bytes(4) + b"\0\1" + item))
    with pytest.raises(Unprocessable, match="is not text"):
        read_header(file, LIMITS)


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"cHRM", b""),
        chunk(b"gAMA", b"\0"),
        chunk(b"pHYs", b"\0"),
        chunk(b"iCCP", b"name\0\1not deflated"),
        chunk(b"tRNS", b"\0"),
        chunk(b"eXIf", b"II*\0")[:-1] + b"\0",
        chunk(b"zTXt", b"Comment\0\1not deflated"),
        chunk(b"acTL", b""),
    ],
)
def test_a_broken_optional_chunk_is_ignored(broken: bytes) -> None:
    pixels = levels(3)
    picture = decode(png(pixels, broken, chunk(b"pHYs", struct.pack(">IIB", 3937, 3937, 1))), LIMITS)
    assert (picture.planes == pixels).all()
    assert not picture.transparent
    assert picture.metadata.dpi == pytest.approx((100, 100), abs=0.01)


def test_premultiplied_grey_is_divided_by_alpha() -> None:
    pixels = numpy.full((HEIGHT, WIDTH, 2), 50, numpy.uint8)
    pixels[..., 1] = 100
    file = bytearray(tiff(pixels))
    file[file.index(struct.pack("<HHIH", 338, 3, 1, 2)) + 8] = 1
    picture = decode(bytes(file), LIMITS)
    assert picture.grey
    assert (picture.planes[1] == 100).all()
    assert numpy.abs(picture.planes[0].astype(int) - 127).max() <= 1


def test_cmyk_with_alpha_becomes_rgb_with_alpha() -> None:
    inks = levels(5)
    made = pyvips.Image.new_from_array(inks).copy(interpretation="cmyk")
    picture = decode(made.tiffsave_buffer(), LIMITS)
    light = 255 - inks.astype(float)
    visible = inks[..., 4] > 0
    assert (picture.planes[1, ..., 0] == inks[..., 4]).all()
    assert numpy.abs(picture.planes[0] - light[..., :3] * light[..., 3:4] / 255)[visible].max() <= 1


def test_a_tiff_with_a_compression_that_only_libvips_supports_is_read() -> None:
    pixels = levels(3)
    made = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    assert (decode(made.tiffsave_buffer(compression="webp", lossless=True), LIMITS).planes[0] == pixels).all()


def test_a_damaged_tiff_that_only_libvips_supports_is_refused() -> None:
    file = bytearray(tiff(levels(2, bits=16), compression="deflate"))
    file[20:60] = bytes(40)
    with pytest.raises(Unprocessable, match="the TIFF file is truncated or corrupt"):
        decode(bytes(file), LIMITS)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_deep_avif_is_turned_once(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "bits_of_avif", lambda _: 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = noise(WIDTH, HEIGHT, mode="L").convert("RGB")
    file = encoded(grey, "AVIF", exif=exif, quality=100, subsampling="4:4:4")
    expected: Pixels = numpy.array(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB"))
    seen = decode(file, LIMITS).planes[0]
    assert seen.shape == expected.shape
    assert numpy.abs(seen.astype(int) - expected).max() <= 4


@pytest.mark.parametrize(("offset", "byte", "said"), [(1, 0xC3, "lossless"), (4, 12, "JPEG of 12 bits")])
def test_a_jpeg_of_a_rare_kind_is_unsupported_and_not_corrupt(offset: int, byte: int, said: str) -> None:
    file = bytearray(encoded(noise(WIDTH, HEIGHT), "JPEG"))
    file[file.index(b"\xff\xc0") + offset] = byte
    with pytest.raises(UnsupportedFormat, match=said):
        read_header(bytes(file), LIMITS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "file", [Tiff(), Tiff(bits=16), Tiff(bits=16, order=">", planar=True)], ids=["8", "16", "planar"]
)
def test_a_tiff_of_any_depth_is_turned_and_says_so(file: Tiff, orientation: int) -> None:
    pixels = levels(3, bits=file.bits)
    picture = decode(replace(file, fields={274: [orientation]}).file(pixels.astype(numpy.uint16)), LIMITS)
    shown = Image.fromarray(numpy.arange(HEIGHT * WIDTH, dtype=numpy.int32).reshape(HEIGHT, WIDTH))
    shown.getexif()[0x0112] = orientation
    places = numpy.array(ImageOps.exif_transpose(shown))
    assert (picture.planes[0] == pixels.reshape(-1, 3)[places]).all()
    assert b"\1\x12" not in (picture.metadata.exif or b"")


def test_the_error_for_a_tiff_of_unusual_depth_names_the_depth() -> None:
    made = io.BytesIO()
    Image.new("RGB", (8, 4)).save(made, "TIFF")
    file = made.getvalue().replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 5, 6, 5))
    with pytest.raises(UnsupportedFormat, match="its channels have 5, 6, 5 bits"):
        decode(file, LIMITS)


def test_the_error_for_signed_pixels_says_so() -> None:
    made = pyvips.Image.new_from_array(numpy.zeros((4, 4, 3), numpy.int16))
    with pytest.raises(UnsupportedFormat, match=r"signed.*16 bits, sample format 2"):
        decode(made.tiffsave_buffer(), LIMITS)


@needs_heic
@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_heic_is_read_in_its_depth_and_turned_once(bits: int, quarter_turns: int) -> None:
    grey = numpy.random.default_rng(bits).integers(0, 2**bits, (SIDE, SIDE)).astype(numpy.uint16)
    file = heic(grey, bits=bits, quarter_turns=quarter_turns)
    picture = decode(file, LIMITS)
    assert picture.bits == read_header(file, LIMITS).bits == (8 if bits == 8 else 16)
    most = 255 if bits == 8 else 65_535
    wanted = numpy.rot90(grey, quarter_turns)[..., None] / (2**bits - 1) * most
    assert numpy.abs(picture.planes[0] - wanted).max() <= 0.5


@needs_heic
def test_a_heic_truncated_in_its_pixels_is_refused() -> None:
    file = heic(numpy.full((SIDE, SIDE), 77, numpy.uint16))
    with pytest.raises(Unprocessable, match="the HEIF file is truncated or corrupt"):
        decode(file[:-100], LIMITS)


def test_a_ycck_jpeg_is_not_decoded_as_cmyk() -> None:
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), level) for level in (120, 100, 160, 40)])
    cmyk = encoded(inks, "JPEG", quality=100)
    adobe = cmyk.index(b"Adobe")
    assert cmyk[adobe + 11] == 0
    ycck = cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :]
    luma, blue, red, black = (255 - level for level in (120, 100, 160, 40))  # inverted, as such files store them
    light = luma + numpy.array((1.402 * (red - 128), -0.344 * (blue - 128) - 0.714 * (red - 128), 1.772 * (blue - 128)))
    wanted = (255 - light) * black / 255
    assert numpy.abs(decode(ycck, LIMITS).planes[0] - wanted).max() <= 2


@pytest.mark.parametrize("signature", [b"MM*\0", b"II\0*"])
def test_a_tiff_with_the_signature_of_the_other_byte_order_never_reaches_a_decoder(
    signature: bytes, tmp_path: Path
) -> None:
    file = Tiff(order="<" if signature.startswith(b"I") else ">").file(levels(3).astype(numpy.uint16))
    odd, path = signature + file[4:], tmp_path / "odd.tif"
    path.write_bytes(odd)
    assert opened(odd).format == "TIFF"
    with pytest.raises(UnsupportedFormat, match="not a picture in a known format"):
        read_header(odd, LIMITS)
    with pytest.raises(NotAccepted, match="not a picture in a known format"):
        read_size(path, LIMITS)


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_an_avif_whose_first_brand_says_nothing_is_read(brand: bytes) -> None:
    file = encoded(noise(WIDTH, HEIGHT), "AVIF")
    assert read_header(file[:8] + brand + file[12:], LIMITS).format == "AVIF"
