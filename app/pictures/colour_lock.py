"""Colour lock: makes the low frequencies of an upscaled picture equal to the upload's, as generators shift colours."""

import numpy
from numpy.typing import NDArray
from PIL import Image

from app.pictures.picture import Pixels, max_level

CELL_PX = 8
"""Side of the cells of the upload, in LR px, whose mean colours are kept."""

STEPS = 4
"""Iterations: interpolation between cells changes each mean a little; every step corrects most of that."""

Levels = NDArray[numpy.float32]


class ColourLock:
    """Corrects the colour plane of upscaled planes (N, H, W, 3). Rows go in and come out in order.

    The mean of each cell misses M of the upload's. Adding a grid G of corrections, interpolated linearly between the
    centres of the cells, changes the means by A G, where A mixes each cell with its neighbours only. So

        G0 = M,    Gk = Gk-1 + M - A Gk-1

    needs, for a row of cells of Gk, one more row of Gk-1. Rows of pixels are held until the last grid reaches below
    them: `STEPS` + 1 rows of cells at most.

    Args:
        low_res: colour of the upload, (H, W, 3).
        scale: of the upscaled picture.
    """

    def __init__(self, low_res: Pixels, scale: int) -> None:
        height, width = low_res.shape[:2]
        self._tops, self._lefts = scale * _starts(height), scale * _starts(width)
        self._height, self._width = scale * height, scale * width
        self._wanted = _means(low_res, _starts(height), _starts(width))
        self._down, self._across = _mixing(height), _mixing(width)
        self._grids = [numpy.zeros_like(self._wanted) for _ in range(STEPS)]
        self._known = [0] * STEPS  # rows of each grid
        self._sums = numpy.zeros_like(self._wanted, numpy.float64)  # of the upscaled picture
        position = (numpy.arange(self._height) + 0.5) * len(self._tops) / self._height - 0.5
        self._position: Levels = position.clip(0, len(self._tops) - 1).astype(numpy.float32)
        self._below = (self._position.astype(int) + 1).clip(max=len(self._tops) - 1)
        self._held: Pixels | None = None
        self._arrived = 0

    def rows(self, planes: Pixels) -> Pixels:
        """Return the next rows of the result (N, some or none, W, 3), from the next rows of the planes."""
        held = planes if self._held is None else numpy.concatenate((self._held, planes), axis=1)
        self._add(planes[0])
        self._solve()
        first = self._arrived - held.shape[1]
        end = max(first, min(self._arrived, int(numpy.searchsorted(self._below, self._known[-1]))))
        made, self._held = held[:, : end - first].copy(), held[:, end - first :]
        if made.shape[1]:
            made[0] = (made[0] + self._correction(first, end)).round().clip(0, max_level(planes))
        return made

    def _add(self, colour: Pixels) -> None:
        """Add rows of colour to the sums of their cells, and find what complete rows of cells miss."""
        rows = numpy.arange(self._arrived, self._arrived + len(colour))
        cells = numpy.searchsorted(self._tops, rows, side="right") - 1
        sums = numpy.add.reduceat(colour, self._lefts, axis=1, dtype=numpy.float32)
        numpy.add.at(self._sums, cells, sums)
        self._arrived += len(colour)
        whole = int(numpy.searchsorted(numpy.append(self._tops[1:], self._height), self._arrived, side="right"))
        new = slice(self._known[0], whole)
        heights = numpy.diff(self._tops, append=self._height)[new]
        widths = numpy.diff(self._lefts, append=self._width)
        self._grids[0][new] = self._wanted[new] - self._sums[new] / (heights[:, None] * widths)[..., None]
        self._known[0] = whole

    def _solve(self) -> None:
        """Compute all rows of each grid that the rows of the one before allow."""
        rows = len(self._tops)
        for step in range(1, STEPS):
            before, grid = self._grids[step - 1], self._grids[step]
            known = self._known[step - 1]
            for row in range(self._known[step], rows if known == rows else max(self._known[step], known - 1)):
                around = before[[max(0, row - 1), row, min(rows - 1, row + 1)]]
                mixed = _mixed(numpy.tensordot(self._down[row], around, axes=1), self._across)
                grid[row] = before[row] + self._grids[0][row] - mixed
                self._known[step] = row + 1

    def _correction(self, first: int, end: int) -> Levels:
        """Return the levels to add to some rows, (rows, W, 3)."""
        position, below = self._position[first:end], self._below[first:end]
        above = position.astype(int)
        grid = self._grids[-1][above[0] : below[-1] + 1]
        wide = numpy.stack(
            [
                numpy.asarray(
                    Image.fromarray(grid[..., channel]).resize((self._width, len(grid)), Image.Resampling.BILINEAR)
                )
                for channel in range(3)
            ],
            axis=-1,
        )
        share = (position - above)[:, None, None]
        levels: Levels = wide[above - above[0]] * (1 - share) + wide[below - above[0]] * share
        return levels


def _means(pixels: Pixels, tops: NDArray[numpy.intp], lefts: NDArray[numpy.intp]) -> Levels:
    """Return mean colours (rows, columns, 3) of the cells of a picture."""
    down = numpy.add.reduceat(pixels, tops, axis=0, dtype=numpy.float32)
    both: Levels = numpy.add.reduceat(down, lefts, axis=1)
    heights, widths = numpy.diff(tops, append=pixels.shape[0]), numpy.diff(lefts, append=pixels.shape[1])
    return both / (heights[:, None] * widths).astype(numpy.float32)[..., None]


def _starts(side: int) -> NDArray[numpy.intp]:
    """Return the first px of each cell along a side of the upload; cell sizes differ by at most one px."""
    cells = -(-side // CELL_PX)
    return numpy.arange(cells) * side // cells


def _mixing(side: int) -> Levels:
    """Return the weights (cells, 3) of each cell's neighbours and itself in its mean after interpolation."""
    starts = _starts(side)
    position = ((numpy.arange(side) + 0.5) * len(starts) / side - 0.5).clip(0, len(starts) - 1)
    above = position.astype(int)
    cell = numpy.searchsorted(starts, numpy.arange(side), side="right") - 1
    weights = numpy.zeros((len(starts), 3))
    numpy.add.at(weights, (cell, above - cell + 1), 1 - (position - above))
    numpy.add.at(weights, (cell, above - cell + 2), position - above)
    return (weights / numpy.diff(starts, append=side)[:, None]).astype(numpy.float32)


def _mixed(row: Levels, weights: Levels) -> Levels:
    """Mix each cell of a row (columns, 3) with its neighbours."""
    padded = numpy.pad(row, ((1, 1), (0, 0)), mode="edge")
    mixed: Levels = sum(weights[:, [place]] * padded[place : place + len(row)] for place in range(3))  # type: ignore[assignment]  # not 0
    return mixed
