"""YCbCr in a TIFF is converted to RGB by its fields: luma, range, and chroma subsampling."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.pictures.errors import Damaged, NotAccepted
from model.pictures.reading import read, read_header
from tests.model.pictures.files import LIMITS
from tests.tiff_file import Levels, Tiff, Value


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("shared", [1, 2])
def test_ycbcr_becomes_rgb_however_its_colour_is_shared(compression: int, shared: int) -> None:
    small = Image.fromarray(numpy.random.default_rng(0).integers(30, 220, (8, 8, 3), dtype=numpy.uint8))
    image = small.resize((16, 16), Image.Resampling.NEAREST)
    pixels = numpy.asarray(image.convert("YCbCr"))
    if shared == 1:
        stored = pixels.astype(numpy.uint16)
    else:  # four of luma and one of each colour for a square
        luma = pixels[..., 0].reshape(8, 2, 8, 2).transpose(0, 2, 1, 3).reshape(8, 8, 4)
        stored = numpy.concatenate((luma, pixels[::2, ::2, 1:]), axis=-1).astype(numpy.uint16).reshape(8, 48, 1)
    fields = {256: [16], 257: [16], 258: [8] * 3, 277: [3], 278: [16], 530: [shared] * 2}
    file = Tiff(photometric=6, compression=compression, rows_per_strip=16, fields=fields).file(stored)
    assert numpy.abs(read(file, LIMITS).samples.colour.astype(int) - numpy.asarray(image)).max() <= 3


Ratios = Sequence[tuple[int, int]]


def ratios(numbers: Ratios) -> tuple[int, bytes]:
    """A field of fractions."""
    return 5, b"".join(struct.pack("<II", *number) for number in numbers)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 4)])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("red", "blue"), [(0.299, 0.114), (0.2126, 0.0722)])
def test_ycbcr_is_converted_as_its_fields_say_and_other_bytes_do_not_count(
    red: float, blue: float, across: int, down: int, compression: int, *, tiled: bool, narrow: bool
) -> None:
    small = numpy.random.default_rng(0).integers(30, 220, (8, 8, 3))
    rgb = small.repeat(4, axis=0).repeat(4, axis=1)
    luma = rgb @ numpy.array((red, 1 - red - blue, blue))
    chroma: list[NDArray[numpy.float64]] = [
        (rgb[..., channel] - luma) / (2 - 2 * share) for channel, share in ((2, blue), (0, red))
    ]
    scaled = (16 + luma * 219 / 255, *(one * 112 / 127 for one in chroma)) if narrow else (luma, *chroma)
    black, white, most = ((16, 1), (235, 1), (240, 1)) if narrow else ((0, 1), (255, 1), (255, 1))
    fields: dict[int, Value] = {256: [32], 257: [32], 258: [8] * 3, 277: [3], 530: [across, down]}
    fields |= {529: ratios([(round(share * 10_000), 10_000) for share in (red, 1 - red - blue, blue)])}
    fields |= {532: ratios([black, white, (128, 1), most, (128, 1), most]), 34675: (7, bytes(7000))}
    fields |= {317: [2]} if compression == 1 else {}  # without a meaning there
    fields |= {322: [8 * across], 323: [8 * down]} if tiled else {278: [3 * down]}
    file = Tiff(photometric=6, compression=compression, tile_px=8 if tiled else None, fields=fields)
    colour = read(file.file(blocks(scaled, across, down)), LIMITS).samples.colour
    assert numpy.abs(colour - rgb).max() <= 4


def blocks(planes: Sequence[NDArray[numpy.float64]], across: int, down: int) -> Levels:
    """Luma and subsampled chroma (H, W), as blocks with one channel per sample."""
    height, width = planes[0].shape
    parts = [plane.reshape(height // down, down, width // across, across).swapaxes(1, 2) for plane in planes]
    luma, *colour = (part.reshape(height // down, width // across, -1) for part in parts)
    packed = numpy.concatenate((luma, *(one[..., :1] + 128 for one in colour)), axis=-1)
    return packed.round().clip(0, 255).astype(numpy.uint16)


WHOLE = Tiff(photometric=6, rows_per_strip=16, fields={530: [1, 1]})


@pytest.mark.parametrize("compression", [1, 8])
def test_ycbcr_whose_pixels_are_missing_is_damaged(compression: int) -> None:
    stored = numpy.random.default_rng(0).integers(0, 256, (16, 16, 3), numpy.uint16)
    file = replace(WHOLE, compression=compression)
    assert read(file.file(stored), LIMITS).samples.colour.shape == (16, 16, 3)
    with pytest.raises(Damaged):
        read(replace(file, fields={530: [1, 1], 273: [10**6]}).file(stored), LIMITS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({529: [0, 0, 0]}, "field 529 says no coefficients"),
        ({529: ratios([(1, 0)] * 3)}, "field 529 says no coefficients"),
        ({532: [0, 0, 128, 255, 128, 255]}, "field 532 says no range"),
        ({532: [0, 255]}, "field 532 says no range"),
    ],
)
def test_ycbcr_without_a_meaning_is_damaged(fields: Mapping[int, Value], said: str) -> None:
    stored = numpy.zeros((16, 16, 3), numpy.uint16)
    with pytest.raises(Damaged, match=said):
        read(replace(WHOLE, fields={530: [1, 1], **fields}).file(stored), LIMITS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({530: [3, 1]}, "colour shared by 3 x 1 px"),
        ({530: [2, 2], 278: [3]}, "colour shared by 2 x 2 px"),
        ({530: [2, 2], 317: [2], 259: [8]}, "shared colour with differences"),
        ({258: [4] * 3}, "YCbCr of 3 channels and 4 bits"),
        ({277: [1], 258: [8]}, "YCbCr of 1 channels"),
    ],
)
def test_rare_ycbcr_is_refused_by_name(fields: Mapping[int, Value], said: str) -> None:
    with pytest.raises(NotAccepted, match=said):
        read_header(replace(WHOLE, fields=fields).file(numpy.zeros((16, 16, 3), numpy.uint16)), LIMITS)


@pytest.mark.parametrize("shared_px", [1, 2])
def test_ycbcr_of_odd_size_is_read(shared_px: int) -> None:
    height, width = -(-5 // shared_px), -(-7 // shared_px)
    block = [80] * shared_px**2 + [128, 128]
    stored = numpy.tile(numpy.array(block, numpy.uint16), (height, width, 1)).reshape(height, -1, 1)
    fields = {256: [7], 257: [5], 258: [8] * 3, 277: [3], 278: [5], 530: [shared_px] * 2}
    colour = read(Tiff(photometric=6, rows_per_strip=5, fields=fields).file(stored), LIMITS).samples.colour
    assert colour.shape == (5, 7, 3)
    assert (colour == 80).all()


def test_ycbcr_in_planes_apart_is_refused_by_name() -> None:
    with pytest.raises(NotAccepted, match="YCbCr in separate planes"):
        read_header(
            Tiff(photometric=6, planar=True, fields={530: [1, 1]}).file(numpy.zeros((4, 4, 3), numpy.uint16)), LIMITS
        )
