"""BMPs of numbered colours: every depth, header and palette."""

import struct

import numpy
import pytest
from numpy.typing import NDArray

from model.pictures.errors import Damaged, OverLimit
from model.pictures.reading import read, read_header
from tests.model.pictures.files import LIMITS

HEIGHT, WIDTH = 7, 13
HEADERS = (12, 40, 52, 56, 64, 108, 124)
RANDOM = numpy.random.default_rng(0)
PALETTES = {
    "colours": RANDOM.integers(0, 256, (256, 3)),
    "black and white": numpy.array([[0, 0, 0], [255, 255, 255]]),
    "white and black": numpy.array([[255, 255, 255], [0, 0, 0]]),
    "a ramp from black": numpy.arange(256)[:, None].repeat(3, 1),
}


def bmp(
    numbers: NDArray[numpy.int64],
    colours: NDArray[numpy.int64],
    bits: int,
    *,
    header_bytes: int = 40,
    top_down: bool = False,
) -> bytes:
    """A file of the numbers (H, W) of colours (number, 3)."""
    height, width = numbers.shape
    singly = (numbers[..., None] >> numpy.arange(bits)[::-1]) & 1
    rows = numpy.packbits(singly.reshape(height, -1).astype(numpy.uint8), axis=1)
    rows = numpy.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    table = colours[:, ::-1].astype(numpy.uint8)
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        signed = -height if top_down else height
        fields = (header_bytes, width, signed, 1, bits, 0, 0, 2000, 3000, len(colours), 0)
        header = struct.pack("<IiiHHIIiiII", *fields).ljust(header_bytes, b"\0")
        table = numpy.pad(table, ((0, 0), (0, 1)))
    body = header + table.tobytes()
    begins = 14 + len(body)
    pixels = rows[:: 1 if top_down else -1].tobytes()
    return b"BM" + struct.pack("<IHHI", begins + len(pixels), 0, 0, begins) + body + pixels


@pytest.mark.parametrize("header_bytes", HEADERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", PALETTES)
def test_numbers_stand_for_the_colours_of_the_palette(name: str, bits: int, header_bytes: int) -> None:
    colours = PALETTES[name][: 2**bits]
    numbers = RANDOM.integers(0, len(colours), (HEIGHT, WIDTH))
    samples = read(bmp(numbers, colours, bits, header_bytes=header_bytes), LIMITS).samples
    assert (samples.colour == colours[numbers]).all()
    assert samples.grey == (name != "colours")


def test_rows_may_begin_at_the_top() -> None:
    numbers = RANDOM.integers(0, 256, (HEIGHT, WIDTH))
    file = bmp(numbers, PALETTES["colours"], 8, top_down=True)
    assert (read(file, LIMITS).samples.colour == PALETTES["colours"][numbers]).all()
    header = read_header(file, LIMITS)
    assert (header.height, header.width, header.bits) == (HEIGHT, WIDTH, 8)


def test_a_number_without_a_colour_is_black() -> None:
    numbers = numpy.full((1, 4), 200)
    assert not read(bmp(numbers, PALETTES["white and black"], 8), LIMITS).samples.colour.any()


def test_the_resolution_is_kept() -> None:
    image = read(bmp(numpy.zeros((2, 2), int), PALETTES["colours"], 8), LIMITS).image
    assert image.info["dpi"] == pytest.approx((50.8, 76.2))


@pytest.mark.parametrize("kept", [26, 30, 60, -1])
def test_a_file_that_ends_too_early_is_damaged(kept: int) -> None:
    file = bmp(numpy.zeros((HEIGHT, WIDTH), int), PALETTES["colours"], 8)
    with pytest.raises(Damaged, match=r"(?i)truncated"):
        read(file[:kept], LIMITS)


def test_too_many_pixels_are_refused_by_the_header() -> None:
    file = bytearray(bmp(numpy.zeros((HEIGHT, WIDTH), int), PALETTES["colours"], 8))
    file[18:26] = struct.pack("<ii", 5000, 5000)
    with pytest.raises(OverLimit, match="5000 x 5000"):
        read_header(bytes(file), LIMITS)


def runs(pixels: bytes) -> bytes:
    """A file of 4 x 2 px in runs."""
    file = bmp(numpy.zeros((2, 4), int), PALETTES["colours"], 8)[:-8]
    return file[:30] + b"\1" + file[31:] + pixels


LINES = b"\4\7\0\0\2\1\2\2\0\1"


def test_runs_are_read() -> None:
    numbers = numpy.array([[1, 1, 2, 2], [7, 7, 7, 7]])
    assert (read(runs(LINES), LIMITS).samples.colour == PALETTES["colours"][numbers]).all()
    assert (read(runs(LINES + bytes(1000)), LIMITS).samples.colour == PALETTES["colours"][numbers]).all()


def test_no_more_runs_are_decoded_than_the_pixels_need() -> None:
    with pytest.raises(Damaged, match="truncated or corrupt"):
        read(runs(1000 * b"\0\0" + LINES), LIMITS)
