"""Chroma of half the size keeps its luma, with any matrix."""

import struct

import numpy
import pytest
from numpy.typing import NDArray

from model.pictures.boxes import Item, Items
from model.pictures.chroma import BT601, luma_of, smooth

D65 = (0.3127, 0.3290)
PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.314, 0.351)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65),
}
"""Chromaticities of red, green, blue and white (ITU-T H.273, table 2)."""


def items(primaries: int, matrix: int) -> Items:
    """Make the items of a picture that names its colours."""
    body = b"nclx" + struct.pack(">HHHB", primaries, 13, matrix, 0x80)
    return Items(number=1, primary=Item(properties=[(b"colr", body)]), others={}, premultiplied=False)


@pytest.mark.parametrize("primaries", PRIMARIES)
def test_luma_is_derived_from_the_primaries(primaries: int) -> None:
    columns = numpy.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[primaries]]).T
    red, _, blue = numpy.linalg.solve(columns[:, :3], columns[:, 3])
    assert luma_of(items(primaries, 12)) == pytest.approx((red, blue), abs=1e-4)


@pytest.mark.parametrize(
    ("matrix", "luma"), [(1, (0.2126, 0.0722)), (6, BT601), (7, (0.212, 0.087)), (9, (0.2627, 0.0593)), (99, BT601)]
)
def test_luma_is_that_of_the_matrix(matrix: int, luma: tuple[float, float]) -> None:
    assert luma_of(items(1, matrix)) == luma


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (struct.pack(">HHHB", 9, 16, 10, 0x80), (9, 16, 10)),
        (struct.pack(">HHHB", 256, 16, 10, 0x80), None),
        (struct.pack(">HHH", 9, 16, 10), None),
        (b"", None),
    ],
)
def test_colours_are_named_by_numbers_that_exist(body: bytes, named: tuple[int, int, int] | None) -> None:
    profile, nclx = (b"colr", b"prof" + bytes(9)), (b"colr", b"nclx" + body)
    found = Items(number=1, primary=Item(properties=[profile, nclx]), others={}, premultiplied=False)
    assert found.nclx == named
    assert luma_of(found) == (luma_of(items(9, 10)) if named else BT601)


def of_ycgco(planes: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Convert luma and colours (H, W, 3) of matrix 8 to RGB."""
    luma, green, orange = numpy.moveaxis(planes, -1, 0)
    return numpy.stack((luma - green + orange, luma + green, luma - green - orange), axis=-1)


def test_smooth_colour_of_ycgco_leaves_luma_alone() -> None:
    planes = numpy.full((8, 16, 3), 0.5)
    planes[..., 1:] = numpy.linspace(-0.1, 0.1, 8).repeat(2)[:, None]
    pixels = (of_ycgco(planes) * 65535).astype(numpy.uint16)
    smoothed = smooth(pixels, (2, 2), luma_of(items(1, 8)))
    assert (smoothed != pixels).any()
    luma = smoothed @ numpy.array((0.25, 0.5, 0.25))
    assert numpy.abs(luma - 0.5 * 65535).max() <= 2
