"""Colour lock: makes the low frequencies of an upscaled picture equal to the upload's, as generators shift colours."""

from collections.abc import Iterator

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.picture import Pixels

CELL_PX = 8
"""Side of the cells of the upload, in LR px, whose mean colours are kept."""

STEPS = 4
"""Iterations: interpolation between cells changes each mean a little; every step corrects most of that."""

Levels = NDArray[numpy.float32]


def colour_correction(upscaled: Pixels, low_res: Pixels, rows_at_once: int) -> Iterator[tuple[slice, Levels]]:
    """Compute what must be added to upscaled colour (H, W, 3) to give it the low frequencies of its low_res.

    Yields:
        A slice of rows and the levels to add to them, (rows, W, 3).
    """
    scale = upscaled.shape[0] // low_res.shape[0]
    missing = _means(low_res, low_res.shape) - _means(upscaled, low_res.shape, scale)
    grid = missing.copy()
    for _ in range(STEPS - 1):
        smooth = _joined(grid, low_res.shape[0], low_res.shape[1], rows_at_once)
        grid += missing - _means(numpy.concatenate([part for _, part in smooth]), low_res.shape)
    yield from _joined(grid, upscaled.shape[0], upscaled.shape[1], rows_at_once)


def _means(pixels: Pixels | Levels, low_res: tuple[int, ...], scale: int = 1) -> Levels:
    """Return mean colours (rows, columns, 3) of the cells of a picture with `scale` times the size of its low_res."""
    tops, lefts = (scale * _starts(side) for side in low_res[:2])
    down = numpy.add.reduceat(pixels, tops, axis=0, dtype=numpy.float32)
    both: Levels = numpy.add.reduceat(down, lefts, axis=1)
    heights, widths = numpy.diff(tops, append=pixels.shape[0]), numpy.diff(lefts, append=pixels.shape[1])
    return both / (heights[:, None] * widths).astype(numpy.float32)[..., None]


def _starts(side: int) -> NDArray[numpy.intp]:
    """Return the first px of each cell along a side of the upload; cell sizes differ by at most one px."""
    cells = -(-side // CELL_PX)
    return numpy.arange(cells) * side // cells


def _joined(grid: Levels, height: int, width: int, rows_at_once: int) -> Iterator[tuple[slice, Levels]]:
    """Interpolate a grid of cells linearly between their centres, some rows at a time."""
    wide = numpy.stack(
        [
            numpy.asarray(Image.fromarray(grid[..., channel]).resize((width, len(grid)), Image.Resampling.BILINEAR))
            for channel in range(grid.shape[-1])
        ],
        axis=-1,
    )
    for top in range(0, height, rows_at_once):
        rows = numpy.arange(top, min(top + rows_at_once, height))
        position = ((rows + 0.5) * len(grid) / height - 0.5).clip(0, len(grid) - 1).astype(numpy.float32)
        above = position.astype(int)
        below = (above + 1).clip(max=len(grid) - 1)
        share = (position - above)[:, None, None]
        yield slice(top, top + len(rows)), wide[above] * (1 - share) + wide[below] * share
