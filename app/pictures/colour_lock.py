"""The low frequencies of an upscaled picture made equal to those of the upload: generators shift colours a little."""

from collections.abc import Iterator

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.picture import Pixels

CELL_PX = 8
"""Side of the squares of the upload, in LR px, whose mean colours are kept."""

STEPS = 4
"""Cells are joined smoothly, which takes a little from each mean; every step gives most of that back."""

Levels = NDArray[numpy.float32]


def colour_correction(upscaled: Pixels, low_res: Pixels, rows_at_once: int) -> Iterator[tuple[slice, Levels]]:
    """What must be added to upscaled colour (H, W, 3) so that its low frequencies are those of its low_res.

    Yields:
        Some rows and the levels to add to them, (rows, W, 3).
    """
    scale = upscaled.shape[0] // low_res.shape[0]
    missing = _means(low_res, low_res.shape) - _means(upscaled, low_res.shape, scale)
    grid = missing.copy()
    for _ in range(STEPS - 1):
        smooth = _joined(grid, low_res.shape[0], low_res.shape[1], rows_at_once)
        grid += missing - _means(numpy.concatenate([part for _, part in smooth]), low_res.shape)
    yield from _joined(grid, upscaled.shape[0], upscaled.shape[1], rows_at_once)


def _means(pixels: Pixels | Levels, low_res: tuple[int, ...], scale: int = 1) -> Levels:
    """Mean colours (rows, columns, 3) of the cells of a picture that has `scale` times the shape of its low_res."""
    tops, lefts = (scale * _starts(side) for side in low_res[:2])
    down = numpy.add.reduceat(pixels, tops, axis=0, dtype=numpy.float32)
    both: Levels = numpy.add.reduceat(down, lefts, axis=1)
    heights, widths = numpy.diff(tops, append=pixels.shape[0]), numpy.diff(lefts, append=pixels.shape[1])
    return both / (heights[:, None] * widths).astype(numpy.float32)[..., None]


def _starts(side: int) -> NDArray[numpy.intp]:
    """First px of each cell along a side of the upload; the cells differ by a px at most."""
    cells = -(-side // CELL_PX)
    return numpy.arange(cells) * side // cells


def _joined(grid: Levels, height: int, width: int, rows_at_once: int) -> Iterator[tuple[slice, Levels]]:
    """A grid of cells as a smooth picture, some rows at a time: straight lines between the centres of cells."""
    wide = numpy.stack(
        [
            numpy.asarray(Image.fromarray(grid[..., channel]).resize((width, len(grid)), Image.Resampling.BILINEAR))
            for channel in range(grid.shape[-1])
        ],
        axis=-1,
    )
    for top in range(0, height, rows_at_once):
        rows = numpy.arange(top, min(top + rows_at_once, height))
        place = ((rows + 0.5) * len(grid) / height - 0.5).clip(0, len(grid) - 1).astype(numpy.float32)
        above = place.astype(int)
        below = (above + 1).clip(max=len(grid) - 1)
        share = (place - above)[:, None, None]
        yield slice(top, top + len(rows)), wide[above] * (1 - share) + wide[below] * share
