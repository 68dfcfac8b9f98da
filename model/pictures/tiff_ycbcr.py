"""YCbCr in a TIFF: blocks of luma that share their colour, in any range and by any coefficients (TIFF 6.0, part 21)."""

from dataclasses import replace

import numpy
from numpy.typing import NDArray

from model.pictures.errors import Damaged
from model.pictures.samples import SLICE_ROWS, Pixels
from model.pictures.tiff_directory import Directory
from model.pictures.tiff_layout import (
    ROWS_PER_STRIP,
    TILE_HEIGHT,
    YCBCR_COEFFICIENTS,
    YCBCR_RANGE,
    YCBCR_SHARED,
    Layout,
)

SHARED = (2, 2)
COEFFICIENTS = (0.299, 0.587, 0.114)
RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
"""Defaults of absent fields; the last is black and white of luma, Cb and Cr."""


def _shared(directory: Directory) -> tuple[int, int]:
    """Return how many columns and rows share a chroma sample."""
    across, down = (*directory.numbers(YCBCR_SHARED, 2), *SHARED)[:2]
    return across, down


def rarity(layout: Layout) -> str | None:
    """Describe a kind of YCbCr that is not read here; None if it is read."""
    across, down = _shared(layout.directory)
    rows = layout.directory.number(TILE_HEIGHT if layout.tile_width else ROWS_PER_STRIP, 0) or layout.height
    parted = (rows % down and (layout.tile_width or rows < layout.height)) or (layout.tile_width or 0) % across
    if layout.bits != 8 or layout.channels < 3:
        return f"YCbCr of {layout.channels} channels and {layout.bits} bits"
    if not {across, down} <= {1, 2, 4} or parted:
        return f"colour shared by {across} x {down} px"
    if across * down > 1 and (layout.channels > 3 or layout.predicted):
        return "shared colour with differences or further channels"
    return None


def blocks(layout: Layout) -> Layout:
    """Return the layout of the blocks that share their chroma: each is one px with several channels of luma."""
    across, down = _shared(layout.directory)
    return replace(
        layout,
        width=-(-layout.width // across),
        height=-(-layout.height // down),
        channels=across * down - 1 + layout.channels,
        tile_width=layout.tile_width and layout.tile_width // across,
    )


def rows_of_blocks(directory: Directory) -> dict[int, tuple[int, ...]]:
    """Return the fields that count rows, for rows of blocks."""
    down = _shared(directory)[1]
    found = {tag: directory.number(tag, 0) for tag in (ROWS_PER_STRIP, TILE_HEIGHT)}
    return {tag: (-(-rows // down),) for tag, rows in found.items() if rows}


def in_rgb(layout: Layout, stored: Pixels) -> Pixels:
    """Return pixels (H, W, C) in RGB and with the further channels of the file.

    Args:
        stored: blocks (rows, columns, C) of `blocks`.

    Raises:
        Damaged: a field is broken.
    """
    across, down = _shared(layout.directory)
    scale, of_rgb = _scale(layout.directory), _matrix(layout.directory)
    pixels = numpy.empty((layout.height, layout.width, layout.channels), numpy.uint8)
    for top in range(0, len(stored), SLICE_ROWS):
        some = stored[top : top + SLICE_ROWS]
        luma = some[..., : across * down].reshape(*some.shape[:2], down, across).swapaxes(1, 2)
        rest = some[..., across * down :].repeat(down, axis=0).repeat(across, axis=1)
        whole = numpy.concatenate((luma.reshape(*rest.shape[:2], 1), rest), axis=-1)
        rows = pixels[top * down : (top + SLICE_ROWS) * down]
        kept = whole[: len(rows), : layout.width]
        rows[..., :3] = (((kept[..., :3] - scale[0]) * scale[1]) @ of_rgb).round().clip(0, 255)
        rows[..., 3:] = kept[..., 3:]
    return pixels


def _scale(directory: Directory) -> NDArray[numpy.float32]:
    """Return the offsets to subtract from Y, Cb and Cr, and the factors to multiply them with after that."""
    found = numpy.array(directory.fractions(YCBCR_RANGE) or RANGE)
    if found.shape != (6,) or not (numpy.isfinite(found).all() and (found[::2] != found[1::2]).all()):
        raise Damaged(f"the TIFF file is corrupt: its field {YCBCR_RANGE} says no range")
    none, all_of_it = found[::2], found[1::2]
    return numpy.array((none, (255, 127, 127) / (all_of_it - none)), numpy.float32)


def _matrix(directory: Directory) -> NDArray[numpy.float32]:
    """Return the matrix by which rows of Y, Cb and Cr become rows of RGB."""
    found = directory.fractions(YCBCR_COEFFICIENTS) or COEFFICIENTS
    if len(found) != 3 or not (numpy.isfinite(found).all() and found[1]):
        raise Damaged(f"the TIFF file is corrupt: its field {YCBCR_COEFFICIENTS} says no coefficients")
    red, green, blue = found
    of_blue, of_red = 2 - 2 * blue, 2 - 2 * red
    return numpy.array(
        ((1, 1, 1), (0, -of_blue * blue / green, of_blue), (of_red, -of_red * red / green, 0)), numpy.float32
    )
